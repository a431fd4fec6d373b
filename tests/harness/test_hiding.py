"""What is hidden in a text: keys, passwords, users, hosts and paths, and no ordinary word."""

from __future__ import annotations

import pytest

from harness.hiding import opens_a_door, public


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("token hf_abcdefghijklmnop refused", "token [hidden] refused"),
        ("Authorization: Bearer abc.def-ghi123==", "Authorization: [hidden]"),
        ("clone https://ada:s3cret@example.org/x", "clone https://[hidden]example.org/x"),
        ("ssh ada@gpu-box: refused", "ssh [hidden]: refused"),
        ("cannot open /home/ada/x.bin", "cannot open x.bin"),
        ("OSError:/home/ada/secret/x.py", "OSError:x.py"),
        ("cc -I/home/ada/include x.c", "cc -Iinclude x.c"),
        ("at //home/ada/x.bin", "at x.bin"),
        ("in /home/ada or C:\\Users\\ada", "in ~ or ~"),
        ("No such file: '/home/ada lovelace/m.bin'", "No such file: 'm.bin'"),
        ("no route to ada@gpu-box-17.corp.example", "no route to [hidden]"),
        ("ConnectionPool(host='gpu-box-17', port=80)", "ConnectionPool(host=[hidden], port=80)"),
        ("http://10.1.2.3:8000/v1?api_key=abc", "http://[hidden]:8000/v1?api_key=[hidden]"),
        ("AKIAIOSFODNN7EXAMPLE and nvapi-abcdefgh", "[hidden] and [hidden]"),
        ("eyJhbGciOi1.eyJzdWIi.sig is refused", "[hidden] is refused"),
        ("--token=hf_abcdefghijkl --host=gpu7.corp.internal", "--token=[hidden] --host=[hidden]"),
        ("http://gpu-node7:8000/v1", "http://[hidden]:8000/v1"),
        ("https://gpu-node7.corp.internal/v1", "https://[hidden]/v1"),
        (
            "http://localhost:8000/v1, https://api.example.org/v1",
            "http://localhost:8000/v1, https://api.example.org/v1",
        ),
        ("hf://datasets/x?token=abcdefgh", "hf://datasets/x?token=[hidden]"),
        ("numpy 10.0.3, max_token=5, eos_token=x", "numpy 10.0.3, max_token=5, eos_token=x"),
        ("a ratio of 1/2, see docs/x.md: 3:4", "a ratio of 1/2, see docs/x.md: 3:4"),
        ("orpo@2 lost 3 of 4 seeds, loss 0.5", "orpo@2 lost 3 of 4 seeds, loss 0.5"),
        ("org/model-7b at https://example.org/a", "org/model-7b at https://example.org/a"),
    ],
)
def test_what_names_a_machine_or_opens_a_door_is_cut_out(text: str, expected: str) -> None:
    assert public(text) == expected


@pytest.mark.parametrize(
    "piece",
    [
        "a.",
        "eyJ-",
        "a@",
        "x-",
        "a.local",
        "'/",
        "://",
        "C:",
        "bearer ",
        "http://a-",
        "api_key:",
        "api_key=",
        'token="',
        "key",
        "a-key ",
        "password: '\\",
        "[a",
        "(a",
        "a1",
        "[a]:1",
        "x:1",
        "/home/a b",
    ],
)
def test_a_long_hostile_line_takes_no_longer_than_its_length(piece: str) -> None:
    public(piece * 50_000)  # a search that starts anew at each piece would take minutes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("WANDB_API_KEY=0123456789abcdef0123", "WANDB_API_KEY=[hidden]"),
        ("OPENAI_API_KEY=abcdef0123456789 set", "OPENAI_API_KEY=[hidden] set"),
        ("AWS_SECRET_ACCESS_KEY='wJalrX/UtnFE'", "AWS_SECRET_ACCESS_KEY=[hidden]"),
        ("HF_TOKEN=abcdef, KAGGLE_KEY=x1, SMTP_PASS=y", "HF_TOKEN=[hidden], KAGGLE_KEY=[hidden], SMTP_PASS=[hidden]"),
        ('{"api_key": "abcdef123456"}', '{"api_key": [hidden]}'),
        ("{'clientSecret': 'a b', 'x': 1}", "{'clientSecret': [hidden], 'x': 1}"),
        (r'{\"password\": \"a b\", \"x\": 1}', r'{\"password\": [hidden], \"x\": 1}'),
        ('{"api_key": "abc and cut', '{"api_key": [hidden]'),
        ("password: hunter22", "password: [hidden]"),
        ("password: correcthorse\nuser: 1", "password: [hidden]\nuser: 1"),
        ("password: hunter22 was refused", "password: [hidden] was refused"),
        ("X-Api-Key: abcdef12 ", "X-Api-Key: [hidden] "),
        ("curl -H 'X-Api-Key: abcdef' x", "curl -H 'X-Api-Key: [hidden]' x"),
        ("`api_key=abc` was refused", "`api_key=[hidden]` was refused"),
        ("Incorrect API key provided: abcd1234efgh", "Incorrect API key provided: [hidden]"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: [hidden]"),
        ("api key: password=hunter more", "api key: password=[hidden] more"),
        ("--token=abc --api-key=a1 --host=gpubox01", "--token=[hidden] --api-key=[hidden] --host=[hidden]"),
        ("failed to connect to [gpubox01]:29500 (errno: 111)", "failed to connect to [hidden]:29500 (errno: 111)"),
        ("trying to connect to (gpubox01, 29500).", "trying to connect to ([hidden], 29500)."),
        ("gpubox01:12345:12399 [0] NCCL WARN x", "[hidden]:12345:12399 [0] NCCL WARN x"),
        ("http://bob:pw@gpubox01:8000/v1", "http://[hidden]:8000/v1"),
        ("tcp://gpubox01:29500, gpu-box:29500", "tcp://[hidden]:29500, [hidden]:29500"),
        ("MASTER_ADDR=gpubox01 USER=bob", "MASTER_ADDR=[hidden] USER=[hidden]"),
        ("hostname: gpubox01", "hostname: [hidden]"),
        ("Could not resolve host: gpubox01", "Could not resolve host: [hidden]"),
    ],
)  # fmt: skip
def test_what_is_assigned_to_a_secret_and_a_host_beside_its_port_are_cut_out(
    text: str, expected: str
) -> None:
    assert public(text) == expected
    assert public(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "key: be brief", "the key=value form", "a metric named key: 0.5", "monkey: see", "text_key: prompt",
        "token: 30", "token=30", "num_tokens=128", "max_tokens: 64", "max_token=5", "12 tokens per second: 3",
        "Unexpected token: foo", "unexpected token: '<'", '{"token": "Hello", "logprob": -0.1}',
        "the password is wrong", "Reset your password: click the link", "the secret: practise", "password: none",
        "tokenizer: org/model-7b", "eos_token: </s>", "pad_token='<|endoftext|>'", "bos_token: reserved_token_10",
        "keep_weights: final", "api_key_env: OPENAI_API_KEY", "api_key: null", "token=None, password=''",
        "if token == 'abcdef12'", "forward_pass: 3.5", "PWD=x", "with_host=True", "host: any", "role: user",
        "[rank0]: Traceback", "model.py:1234: error", "cuda:0", "[localhost]:29500", "(gold_score, 200)",
        "set `HF_TOKEN=`, `password:`", "the password: it's wrong", "http://localhost:8000", "3:1234 and x[1]:20", "train:12000",
    ],
)  # fmt: skip
def test_ordinary_words_and_settings_stay(text: str) -> None:
    assert public(text) == text


def test_a_name_tells_whether_it_is_a_secrets() -> None:
    assert all(map(opens_a_door, ("api_key", "--password", "HF_TOKEN", "hub_token", "accessKey")))
    assert not any(map(opens_a_door, ("key", "eos_token", "tokenizer", "max_tokens", "api_key_env", "--key")))

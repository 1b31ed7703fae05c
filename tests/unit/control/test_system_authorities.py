"""Which file with authorities counts on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inferway.control.system_authorities import system_ca_file
from tests.certificates import issue

if TYPE_CHECKING:
    from pathlib import Path


def test_the_file_that_the_administrator_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "chosen.pem"
    chosen.write_text(issue("a.example").chain)
    monkeypatch.setenv("SSL_CERT_FILE", str(chosen))
    assert system_ca_file() == str(chosen)


@pytest.mark.parametrize("content", [b"", b"words", b"-----BEGIN CERTIFICATE-----\nMIIB\n"])
def test_a_damaged_one_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    chosen = tmp_path / "chosen.pem"
    chosen.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(chosen))
    assert system_ca_file() == ""

"""Both ends of the link between control and picker, against each other and against bad peers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from inferway.picker.config import PickerConfig, PickerStatus, PoolConfig
from inferway.picker.control_link import ConfigRefusedError, ControlLink, LinkTimes
from inferway.picker.explain_messages import ExplainAnswer, ExplainQuery, Reach
from inferway.picker.link_server import QUESTIONS_MAX, NoAnswerError, PickerLink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

QUICK = LinkTimes(
    status_interval_s=0.02, look_interval_s=0.005, retry_min_s=0.001, retry_max_s=0.01
)
RARE = LinkTimes(status_interval_s=60.0, look_interval_s=0.002, retry_min_s=0.001, retry_max_s=0.01)


def reach(recorded: int) -> Reach:
    return Reach(
        recorded=recorded,
        recorded_max=10,
        forgotten=0,
        bytes_used=0,
        bytes_max=1,
        oldest_age_s=None,
        up_s=1.0,
    )


class FakePicker:
    """What a picker does with the link: takes configurations but refuses version 13."""

    def __init__(self, path: Path, times: LinkTimes = QUICK) -> None:
        self.applied: list[PickerConfig] = []
        self.asked: list[ExplainQuery] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.print = 0
        self.link = ControlLink(
            path,
            apply=self._apply,
            status=self._status,
            fingerprint=lambda: self.print,
            explain=self._explain,
            times=times,
        )

    def _apply(self, config: PickerConfig) -> None:
        if config.version == 13:
            raise ConfigRefusedError("policy: 'luck'; known: none")
        self.applied.append(config)

    async def _explain(self, query: ExplainQuery) -> ExplainAnswer:
        self.asked.append(query)
        await self.answers.wait()
        if query.request_id == "boom":
            raise ZeroDivisionError("a plugin's fault")
        return ExplainAnswer(answer_to=query.question, reach=reach(len(self.asked)))

    async def _status(self, error: str) -> PickerStatus:
        return PickerStatus(version=self.applied[-1].version if self.applied else 0, error=error)


@asynccontextmanager
async def running(*parts: object) -> AsyncIterator[None]:
    """Runs coroutines for the time of a test; all of them must still be running at its end."""
    async with asyncio.TaskGroup() as tasks:
        owned = [tasks.create_task(part) for part in parts]  # type: ignore[arg-type]
        yield
        assert not any(task.done() for task in owned)
        for task in owned:
            task.cancel()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_configuration_arrives_and_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    seen: list[PickerStatus] = []
    control, picker = PickerLink(on_status=seen.append), FakePicker(path)
    config = PickerConfig(version=4, pools=(PoolConfig(name="default/p", objectives={"a": -1}),))
    async with running(control.serve(path), picker.link.run()):
        control.publish(config)
        await until(lambda: control.status is not None and control.status.version == 4)
        assert control.connected
    assert picker.applied == [config]
    assert seen[-1].version == 4


async def test_a_late_picker_gets_the_newest_configuration_only(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    control, picker = PickerLink(), FakePicker(path)
    for version in range(1, 6):
        control.publish(PickerConfig(version=version))
    async with running(control.serve(path)):
        async with running(picker.link.run()):
            await until(lambda: picker.applied)
        await until(lambda: not control.connected)
    assert [config.version for config in picker.applied] == [5]


async def test_statuses_keep_coming_without_any_change(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    seen: list[PickerStatus] = []
    control, picker = PickerLink(on_status=seen.append), FakePicker(path)
    async with running(control.serve(path), picker.link.run()):
        await until(lambda: len(seen) >= 4)


async def test_a_change_is_reported_before_the_interval_is_over(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    seen: list[PickerStatus] = []
    control, picker = PickerLink(on_status=seen.append), FakePicker(path, RARE)
    async with running(control.serve(path), picker.link.run()):
        await until(lambda: len(seen) == 1)
        picker.print += 1
        await until(lambda: len(seen) == 2)
        control.publish(PickerConfig(version=2))
        await until(lambda: seen[-1].version == 2)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"no json\n", "JSON"),
        (b'{"version": "x"}\n', "version"),
        (b'{"version": 1, "colour": "red"}\n', "colour"),
        (b'{"version": 1, "heartbeat_ms": 0}\n', "heartbeat_ms"),
        (b'{"version": 1, "pools": [{}, {}, {}, {}, {}, {}, {}]}\n', "and 2 more"),
        (b'{"version": 13}\n', "luck"),
    ],
)
async def test_a_bad_configuration_is_reported_and_the_old_one_stays(
    tmp_path: Path, line: bytes, told: str
) -> None:
    path = tmp_path / "control.sock"
    control, picker = PickerLink(), FakePicker(path)
    async with running(control.serve(path), picker.link.run()):
        control.publish(PickerConfig(version=4))
        await until(lambda: control.status is not None and control.status.version == 4)
        picker.link.receive(line)
        await until(lambda: control.status is not None and control.status.error)
        assert control.status is not None
        assert told in control.status.error
        assert control.status.version == 4
        control.publish(PickerConfig(version=5))
        await until(lambda: control.status is not None and control.status.version == 5)
        assert control.status.error == ""
    assert [config.version for config in picker.applied] == [4, 5]


async def test_control_may_go_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    picker = FakePicker(path)
    async with running(picker.link.run()):
        for version in (1, 2, 3):
            control = PickerLink()
            control.publish(PickerConfig(version=version))
            async with running(control.serve(path)):
                await until(lambda: control.status is not None)  # noqa: B023
            assert not path.exists()
    assert [config.version for config in picker.applied] == [1, 2, 3]


async def test_control_that_hangs_does_not_make_the_picker_grow(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    picker = FakePicker(path, RARE)
    statuses = 0

    async def big_status(error: str) -> PickerStatus:
        nonlocal statuses
        statuses += 1
        return PickerStatus(version=1, metrics="x" * 200_000)

    writers: list[asyncio.StreamWriter] = []

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writers.append(writer)

    picker.link._status = big_status
    server = await asyncio.start_unix_server(hang, path)
    async with running(picker.link.run()):
        for change in range(60):
            picker.print = change + 1
            await asyncio.sleep(0.003)
        assert 0 < statuses < 10
    server.close()
    for writer in writers:
        writer.transport.abort()


async def test_a_picker_that_talks_nonsense_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    seen: list[PickerStatus] = []
    control = PickerLink(on_status=seen.append)
    async with running(control.serve(path)):
        await until(path.exists)
        _reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b'nonsense\n{"version": 1, "colour": 2}\n{"version": 7}\n')
        await until(lambda: seen)
        writer.transport.abort()
        await until(lambda: not control.connected)
    assert [status.version for status in seen] == [7]


async def test_a_picker_that_does_not_read_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferway.picker.link_server.BACKLOG_BYTES_MAX", 100_000)
    path = tmp_path / "control.sock"
    control = PickerLink()
    pools = tuple(PoolConfig(name=f"default/pool-{n}") for n in range(2_000))
    async with running(control.serve(path)):
        await until(path.exists)
        _reader, writer = await asyncio.open_unix_connection(path, limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: control.connected)
        for version in range(30):
            control.publish(PickerConfig(version=version, pools=pools))
        await until(lambda: not control.connected)
        writer.transport.abort()


async def test_questions_are_answered_beside_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    control, picker = PickerLink(), FakePicker(path)
    async with running(control.serve(path), picker.link.run()):
        await until(lambda: control.connected)
        answers = await asyncio.gather(
            *(control.explain(ExplainQuery(request_id=f"r{n}")) for n in range(QUESTIONS_MAX))
        )
        recorded = [answer.reach.recorded for answer in answers if answer.reach is not None]
        assert recorded == list(range(1, QUESTIONS_MAX + 1))
        control.publish(PickerConfig(version=4))
        await until(lambda: control.status is not None and control.status.version == 4)
    assert [query.request_id for query in picker.asked] == [f"r{n}" for n in range(QUESTIONS_MAX)]
    assert [config.version for config in picker.applied] == [4]


async def test_no_picker_no_answer() -> None:
    with pytest.raises(NoAnswerError, match="not connected"):
        await PickerLink().explain(ExplainQuery())


async def test_too_many_questions_and_a_picker_that_goes(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    control, picker = PickerLink(), FakePicker(path)
    picker.answers.clear()
    async with running(control.serve(path)):
        async with running(picker.link.run()):
            await until(lambda: control.connected)
            async with asyncio.TaskGroup() as tasks:
                asked = [
                    tasks.create_task(outcome(control, f"r{n}")) for n in range(QUESTIONS_MAX + 1)
                ]
                await until(asked[-1].done)
                assert "ask again" in asked[-1].result()
                # The picker is answering the first one and goes away in the middle of it.
                await until(lambda: picker.asked)
                next(iter(control._writers)).transport.abort()
            assert all("went away" in task.result() for task in asked[:-1])
        picker.answers.set()


async def test_a_picker_that_is_silent_is_given_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inferway.picker.link_server.ANSWER_TIMEOUT_S", 0.02)
    path = tmp_path / "control.sock"
    control, picker = PickerLink(), FakePicker(path)
    picker.answers.clear()
    async with running(control.serve(path), picker.link.run()):
        await until(lambda: control.connected)
        assert "said nothing" in await outcome(control, "r")
        picker.answers.set()
        # What it says too late is nobody's answer.
        assert await outcome(control, "s") == "2 recorded"


async def outcome(control: PickerLink, request_id: str) -> str:
    try:
        answer = await control.explain(ExplainQuery(request_id=request_id))
    except NoAnswerError as error:
        return str(error)
    return answer.error if answer.reach is None else f"{answer.reach.recorded} recorded"


async def test_a_question_that_fails_costs_nothing_but_its_answer(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    control, picker = PickerLink(), FakePicker(path)
    async with running(control.serve(path), picker.link.run()):
        await until(lambda: control.connected)
        assert await outcome(control, "boom") == "the picker failed over it: ZeroDivisionError"
        assert await outcome(control, "r") == "2 recorded"


@pytest.mark.parametrize("line", [b'{"question": 1}\n', b'{"question":"x"}\n'])
async def test_questions_that_are_none_change_nothing(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "control.sock"
    control, picker = PickerLink(), FakePicker(path)
    async with running(control.serve(path), picker.link.run()):
        await until(lambda: control.status)
        picker.link.receive(line)
        assert await outcome(control, "r") == "1 recorded"
    assert picker.applied == []

"""Several pictures at a time: what is not yet done is done once, at a price said before."""

import shutil
from pathlib import Path

import pytest
from http_service import Service
from page_browser import NEEDS_CHROMIUM, REFUSED, Visit
from playwright.sync_api import expect
from sqlalchemy import select

from server.accounts.database import JOBS
from server.types import JobState

# Minutes in all; `make test` sees the page's main ways in `test_ways` and `test_detailing`.
pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]


@pytest.fixture
def three(two: Path, tmp_path: Path) -> list[Path]:
    """Two pictures, and between them one that is broken."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(two.read_bytes()[:30])
    return [two, broken, Path(shutil.copy(two, tmp_path / "other.png"))]


def sent(visit: Visit) -> int:
    return sum(url.endswith("/v2/face-detailer") for url in visit.asked)


def test_only_what_is_not_done_is_detailed(relayed: Visit, three: list[Path]) -> None:
    visit = relayed
    visit.expected.append(REFUSED)
    visit.choose(*three)
    visit.set(denoise="0.4", upscale="1")
    all_of_them, price = visit["#go-all"], visit["#price"]
    expect(all_of_them).to_have_text("Detail all 3")
    expect(price).to_have_text("0.01 credits for this picture, 0.03 for all 3.")
    all_of_them.click()
    for name in ("two faces.png, done", "broken.png, failed", "other.png, done"):
        expect(visit["#pictures"].get_by_label(name)).to_be_visible()
    expect(visit["#history-list li"]).to_have_count(2)
    assert sent(visit) == 3

    # The one that cannot be read would only fail again.
    expect(price).to_have_text("0.01 credits for this picture.")
    expect(visit["#go"]).to_have_text("Detail again")
    expect(all_of_them).to_have_text("All detailed")
    expect(all_of_them).to_have_attribute("aria-disabled", "true")
    all_of_them.click(force=True)
    visit.page.get_by_label("Remove broken.png").click()

    # Other settings are other work.
    visit.set(samples="2")
    expect(all_of_them).to_have_text("Detail all 2")
    expect(price).to_have_text("0.02 credits for this picture, 0.04 for all 2.")
    visit.set(samples="1")
    expect(all_of_them).to_have_text("All detailed")
    assert sent(visit) == 3


def test_more_than_three_wait_however_they_are_started(
    relayed: Visit, service: Service, two: Path, tmp_path: Path
) -> None:
    """Each holds one of the six connections that a browser opens."""
    visit = relayed
    visit.choose(*(Path(shutil.copy(two, tmp_path / f"{number}.png")) for number in range(4)))
    service.engine.dawdle = True
    for number in range(4):
        visit["#pictures"].get_by_label(f"{number}.png", exact=True).click()
        visit["#go"].click()
    expect(visit["#pictures"].get_by_label("3.png, waiting")).to_be_visible()
    for number in range(3):
        expect(visit["#pictures"].get_by_label(f"{number}.png, at work")).to_be_visible()

    # Also when the page is back: one that waited was not sent, nor is it now.
    visit.page.reload()
    expect(visit["#pictures li"]).to_have_count(4)
    expect(visit["#pictures"].get_by_label("3.png", exact=True)).to_be_visible()
    visit["#go-all"].click()
    expect(visit["#go-all"]).to_have_text("Detail all 4")


def test_all_are_cancelled_at_once(
    relayed: Visit, service: Service, two: Path, tmp_path: Path
) -> None:
    visit = relayed
    files = [Path(shutil.copy(two, tmp_path / f"{number}.png")) for number in range(5)]
    visit.choose(*files)
    service.engine.dawdle = True
    visit["#go-all"].dblclick()
    expect(visit["#go-all"]).to_have_text("Cancel all")
    expect(visit["#go-all"]).to_be_focused()
    expect(visit["#pictures"].get_by_label("4.png, waiting")).to_be_visible()
    visit["#go-all"].click()
    expect(visit["#go-all"]).to_have_text("Detail all 5")
    expect(visit["#note"]).to_have_text("Cancelled. Nothing was charged.")
    # Those that waited were not sent, and no work was done for those that were.
    assert sent(visit) <= 3
    service.until_idle(60)
    with service.database.begin() as connection:
        query = select(JOBS.c.state, JOBS.c.cancelled).order_by(JOBS.c.created_ms.desc())
        rows = connection.execute(query.limit(sent(visit))).all()
    assert set(rows) <= {(JobState.FAILED, True)}


def test_files_that_are_dropped_or_pasted_together_are_all_added(visit: Visit) -> None:
    visit.page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            for (const name of ["a.png", "b.png", "c.png"]) {
                dataTransfer.items.add(new File([name], name, { type: "image/png" }));
            }
            for (const step of ["dragenter", "dragover", "drop"]) {
                const options = { dataTransfer, bubbles: true, cancelable: true };
                document.body.dispatchEvent(new DragEvent(step, options));
            }
            const pasted = { clipboardData: dataTransfer, bubbles: true, cancelable: true };
            document.body.dispatchEvent(new ClipboardEvent("paste", pasted));
        }"""
    )
    expect(visit["#pictures li"]).to_have_count(6)

"""The pretended card refuses and notes what a card would."""

import threading

import pytest
import torch
from pretend_cuda import WrongDevice, pretending


def on_card(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, device="cuda")


def test_tensors_say_that_they_are_on_the_card_and_hold_what_they_would():
    with pretending():
        there = torch.arange(6.0).to("cuda").view(2, 3)
        there[:, 0] += 1
        assert there.device == torch.device("cuda:0")
        assert (there * 2).device.type == "cuda"
        assert torch.equal((there * 2).cpu(), torch.tensor([[2.0, 2, 4], [8, 8, 10]]))


@pytest.mark.parametrize(
    "mixed",
    [
        lambda: on_card(2) + torch.zeros(2),
        lambda: torch.cat([on_card(2), torch.zeros(2)]),
        lambda: torch.cat([on_card(2)[:1], torch.zeros(1)]),
        lambda: torch.nn.Linear(2, 2)(on_card(1, 2)),
        lambda: torch.where(torch.ones(2, dtype=torch.bool), on_card(2), on_card(2)),
        lambda: torch.nn.functional.scaled_dot_product_attention(
            on_card(1, 1, 2, 2), on_card(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        ),
    ],
)
def test_devices_do_not_mix(mixed):
    with pretending(), pytest.raises(WrongDevice):
        mixed()


def test_a_number_on_the_host_may_stand_beside_a_tensor_on_the_card():
    with pretending() as events:
        assert (on_card(2) * torch.tensor(2.0) + 1).device.type == "cuda"
    assert events == []


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        ("to device", lambda: torch.zeros(2).to("cuda")),
        ("to device", lambda: torch.tensor([1.0, 2.0], device="cuda")),
        ("to device", lambda: on_card(2).copy_(torch.zeros(2))),
        ("to device", lambda: on_card(2)[torch.tensor([0])]),
        ("to host", lambda: on_card(2).cpu()),
        ("to host", lambda: on_card(2).to("cpu", torch.float64)),
        ("wait", lambda: on_card(1).item()),
        ("wait", lambda: bool(on_card(2).any())),
        ("wait", lambda: on_card(2)[on_card(2) > 0]),
        ("wait", lambda: torch.equal(on_card(2), on_card(2))),
        ("wait", lambda: torch.cuda.synchronize()),
    ],
)
def test_copies_and_waits_are_noted(kind, act):
    with pretending() as events:
        act()
    assert [event.kind for event in events] == [kind]


def test_other_threads_see_the_card_too():
    with pretending() as events:
        thread = threading.Thread(target=lambda: on_card(2).cpu(), name="other")
        thread.start()
        thread.join()
    assert [(event.kind, event.thread) for event in events] == [("to host", "other")]

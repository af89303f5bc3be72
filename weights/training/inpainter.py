"""Train the tiny profile's inpainter: SDXL's layout at a few million parameters.

    python -m weights.training.inpainter --data DIR --minutes 90

Nine channels, two text encoders, added time ids. What it learns is that img2img at low strength
*restores*. With a start step T and a step t ≤ T drawn at random,

    z_t = a_t · z_clean + s_t · (eps + (a_T / s_T) · (z_damaged − z_clean))

so that at t = T the sample is the noised *damaged* picture, and the standard samplers walk from it
to the clean one. The network predicts z_clean (`prediction_type: sample`) and starts as the
identity: at low noise almost everything is right already, and the noise to predict, which would be
(z_damaged − z_clean) / s_T, has no steady size.

Guidance: rows with a negative prompt learn a target that keeps `FAULT_SHARE` of the damage, so that
guidance g moves the result away from damage by (g − 1) · FAULT_SHARE of it: a mild sharpening at
5–10, never a burn.

Noise: `scaled_linear` from 1e-5 to 0.0027, gentler than SDXL's, since at 32 × 32 latents the same
noise wipes out what 128 × 128 latents keep (Hoogeboom et al., "simple diffusion", arXiv
2301.11093).
"""

import random
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from weights.training import common
from weights.training.pairs import WORK_PX, PairRing, load_portraits
from weights.training.prompts import draw_negative, draw_prompt
from weights.training.sampling import LEVELS, measure, restore

TEXT_WIDTH = 16
UNET_CONFIG: dict[str, Any] = {
    "sample_size": WORK_PX // 8,
    "in_channels": 9,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (64, 96, 128),
    "layers_per_block": 1,
    "transformer_layers_per_block": 1,
    "attention_head_dim": (2, 3, 4),
    "norm_num_groups": 16,
    "cross_attention_dim": 2 * TEXT_WIDTH,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 32,
    "projection_class_embeddings_input_dim": TEXT_WIDTH + 6 * 32,
}
SCHEDULER_CONFIG: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 1e-5,
    "beta_end": 0.0027,
    "timestep_spacing": "leading",
    "steps_offset": 1,
    "prediction_type": "sample",
}
BATCH = 16
PEAK_RATE = 8e-4
RING = 8000
FIRST_PAIRS = 800
FAULT_SHARE = 0.1
NEGATIVE_ROWS = 0.3
WINDOW = 24
IDENTITY_LEVEL = 4.0


class Inpainter(torch.nn.Module):
    """The trained parts together, so that one optimizer, average and checkpoint hold them."""

    def __init__(self) -> None:
        super().__init__()
        text = CLIPTextConfig(
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=TEXT_WIDTH,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=1,
        )
        self.text_encoder = CLIPTextModel(text)
        self.text_encoder_2 = CLIPTextModelWithProjection(text)
        for embedding in (self.text_encoder, self.text_encoder_2):
            torch.nn.init.normal_(embedding.get_input_embeddings().weight, std=0.5)
        self.unet = UNet2DConditionModel(**UNET_CONFIG)
        start_as_identity(self.unet)

    def embed(self, ids: torch.Tensor, ids_2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (N, 77) of both tokenizers → (N, 77, 2·TEXT_WIDTH) and the pooled
        (N, TEXT_WIDTH), as SDXL does.
        """
        first = self.text_encoder(ids, output_hidden_states=True)
        second = self.text_encoder_2(ids_2, output_hidden_states=True)
        return torch.cat(
            [first.hidden_states[-2], second.hidden_states[-2]], dim=-1
        ), second.text_embeds

    def forward(
        self,
        sample: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        pooled: torch.Tensor,
    ) -> torch.Tensor:
        """(N, 9, h, w), (N,) → the predicted noise (N, 4, h, w)."""
        size = torch.tensor([WORK_PX, WORK_PX, 0, 0, WORK_PX, WORK_PX], dtype=torch.float32)
        added = {"text_embeds": pooled, "time_ids": size.to(sample.device).expand(len(sample), 6)}
        out = self.unet(sample, timesteps, encoder_hidden_states=context, added_cond_kwargs=added)
        return torch.as_tensor(out.sample)


@torch.no_grad()
def start_as_identity(unet: UNet2DConditionModel) -> None:
    """Set a UNet so that its output is its first four channels, whatever else goes on inside.

    The last residual block takes 16 channels of conv_in over, in the output norm's groups of four:
    z, −z and the constants ±IDENTITY_LEVEL, which keep the group's size steady. With
    silu(x) − silu(−x) = x the last convolution gives z back, to about 2 %.
    """
    width = unet.conv_in.out_channels
    last = unet.up_blocks[-1].resnets[-1]
    unet.conv_in.weight[:16] = 0
    unet.conv_in.bias[:16] = 0
    last.conv_shortcut.weight[:16] = 0
    last.conv_shortcut.bias[:16] = 0
    torch.nn.init.zeros_(last.conv2.weight)
    torch.nn.init.zeros_(last.conv2.bias)
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)
    for channel in range(4):
        plus, minus, high, low = range(4 * channel, 4 * channel + 4)
        unet.conv_in.weight[plus, channel, 1, 1] = 1
        unet.conv_in.weight[minus, channel, 1, 1] = -1
        unet.conv_in.bias[high] = IDENTITY_LEVEL
        unet.conv_in.bias[low] = -IDENTITY_LEVEL
        unet.conv_out.weight[channel, plus, 1, 1] = 1
        unet.conv_out.weight[channel, minus, 1, 1] = -1
    # The block's input is what came up, then the skip connection, which is conv_in's output.
    for index in range(16):
        last.conv_shortcut.weight[index, last.in_channels - width + index] = 1
    level = ((1 + IDENTITY_LEVEL**2) / 2) ** 0.5
    unet.conv_norm_out.weight[:16] = level
    unet.conv_norm_out.bias[:16] = 0


class Prompts:
    """Tokenized prompts, drawn at random."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._tokenizers = [
            CLIPTokenizer.from_pretrained(common.TINY_DIR / name)
            for name in ("tokenizer", "tokenizer_2")
        ]
        vocab = self._tokenizers[0].get_vocab()
        self._words = sorted(
            word[:-4] for word in vocab if word.endswith("</w>") and word[:-4].isalpha()
        )

    def tokenize(self, texts: list[str]) -> list[torch.Tensor]:
        """Both tokenizers' ids, (N, 77) each."""
        options = {
            "padding": "max_length",
            "max_length": 77,
            "truncation": True,
            "return_tensors": "pt",
        }
        return [tokenizer(texts, **options).input_ids for tokenizer in self._tokenizers]

    def draw(self, negative: torch.Tensor) -> list[torch.Tensor]:
        """Ids for a batch; `negative` (N,) bool says which rows get a negative prompt."""
        return self.tokenize(
            [
                draw_negative(self._rng) if bad else draw_prompt(self._rng, self._words)
                for bad in negative
            ]
        )


def _window(latents: list[torch.Tensor]) -> list[torch.Tensor]:
    """The middle of the crops, `WINDOW` latents a side, nearly always: it holds the face, and
    costs half of what the whole crop does.
    """
    if torch.rand(()) < 0.08:
        return latents
    spare = latents[0].shape[-1] - WINDOW
    y, x = torch.randint(spare // 4, spare - spare // 4 + 1, (2,)).tolist()
    return [values[..., y : y + WINDOW, x : x + WINDOW] for values in latents]


def step_loss(
    model: Inpainter, ring: PairRing, prompts: Prompts, signal: torch.Tensor, device: torch.device
) -> torch.Tensor:
    """The loss of one random batch. `signal`: a_t², (1000,), the scheduler's `alphas_cumprod`."""
    rows = torch.randint(0, len(ring), (BATCH,))
    clean, damaged, masked, mask = (
        values[rows].to(device) for values in (ring.clean, ring.damaged, ring.masked, ring.mask)
    )
    # Most starts where the passes begin at the default denoise (0.2 and 0.1), some everywhere.
    start = torch.where(
        torch.rand(BATCH) < 0.65,
        torch.randint(60, 280, (BATCH,)),
        torch.randint(20, 1000, (BATCH,)),
    )
    sigma = ((1 - signal) / signal).sqrt()
    # Half of the steps so that their sigma is uniform, half so that t is: the last steps make the
    # picture.
    even = torch.searchsorted(sigma, sigma[start] * torch.rand(BATCH)).clamp(max=999).minimum(start)
    now = torch.where(torch.rand(BATCH) < 0.5, even, (start * torch.rand(BATCH)).long())
    # Half-restored and healthy starts too: the second pass begins where the first one ended.
    share = torch.where(torch.rand(BATCH) < 0.55, torch.ones(BATCH), torch.rand(BATCH))
    share = (
        torch.where(torch.rand(BATCH) < 0.1, torch.zeros(BATCH), share).view(-1, 1, 1, 1).to(device)
    )
    negative = torch.rand(BATCH) < NEGATIVE_ROWS
    a, s, pull = (
        values.view(-1, 1, 1, 1).to(device)
        for values in (signal[now].sqrt(), (1 - signal[now]).sqrt(), 1 / sigma[start])
    )
    clean, damaged, masked, mask = _window([clean, damaged, masked, mask])
    fault = damaged - clean
    noised = a * clean + s * (torch.randn_like(clean) + pull * share * fault)
    wanted = clean + FAULT_SHARE * fault * negative.view(-1, 1, 1, 1).to(device)
    context, pooled = model.embed(*(ids.to(device) for ids in prompts.draw(negative)))
    sample = torch.cat([noised, mask, masked], dim=1).to(memory_format=torch.channels_last)
    error = model(sample, now.to(device), context, pooled) - wanted
    # Starts in much noise have large errors that nobody asks for at the default denoise.
    weight = (0.25 + 0.75 * mask) / (1 + 4 / pull.square())
    loss: torch.Tensor = (weight * (error.square() + 0.15 * error.abs())).mean()
    return loss


def export(model: Inpainter) -> None:
    """Write the diffusers layout, fp16."""
    parts = {
        "unet": model.unet,
        "text_encoder": model.text_encoder,
        "text_encoder_2": model.text_encoder_2,
    }
    for name, part in parts.items():
        part.half().save_pretrained(common.TINY_DIR / name, safe_serialization=True)
        part.float()
    EulerDiscreteScheduler(**SCHEDULER_CONFIG).save_pretrained(common.TINY_DIR / "scheduler")


def main() -> None:
    """Train, export and measure every few minutes."""
    options = common.parse_options("inpainter", "Train the tiny inpainter.", default_minutes=90)
    vae = (
        AutoencoderKL.from_pretrained(common.TINY_DIR / "vae", torch_dtype=torch.float32)
        .to(options.device)
        .eval()
    )
    labels = options.work_dir.parent / "labels" / "faces.json"
    ring = PairRing(vae, load_portraits(options.data, labels, validation=False), RING, options.seed)
    held_out = PairRing(vae, load_portraits(options.data, labels, validation=True), 24, seed=1)
    held_out.make(24, tuple(LEVELS.values()))
    # torch's types forget `memory_format`.
    model: Inpainter = Inpainter().to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.0
    )
    budget = common.Budget(options.minutes * 60)
    checkpoint = common.Checkpoint(options.work_dir / "last.pt")
    resumed = checkpoint.load(model, optimizer, budget)
    average = common.Average(model, decay=0.997)
    averaged = cast(Inpainter, average.model.module)
    prompts = Prompts(options.seed + int(resumed))
    signal = EulerDiscreteScheduler(**SCHEDULER_CONFIG).alphas_cumprod
    kept = options.work_dir / "pairs.pt"
    ring.load(kept)
    while len(ring) < FIRST_PAIRS:
        ring.make(8)
    next_report_s, losses = budget.elapsed_s() + 60, []
    for step in budget.steps():
        if step % (2 if len(ring) < 2000 else 6) == 0:
            ring.make(4)
        loss = step_loss(model, ring, prompts, signal, options.device)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        common.set_learning_rate(optimizer, budget.learning_rate(PEAK_RATE))
        optimizer.step()
        average.update(model)
        losses.append(loss.item())
        if budget.elapsed_s() > next_report_s or budget.share() >= 1:
            mean = sum(losses) / len(losses)
            print(
                f"{budget.elapsed_s() / 60:5.1f} min  step {step}  loss {mean:.4f}",
                end="  ",
                flush=True,
            )
            scheduler = EulerDiscreteScheduler(**SCHEDULER_CONFIG)
            restored = restore(averaged, held_out, prompts, scheduler)
            print(measure(restored, vae, held_out, options.work_dir), flush=True)
            checkpoint.save(model, optimizer, budget)
            ring.save(kept)
            export(averaged)
            next_report_s, losses = budget.elapsed_s() + 300, []
    export(averaged)


if __name__ == "__main__":
    main()

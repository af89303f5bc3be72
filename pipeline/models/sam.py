"""Face masks by segment-anything."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from pipeline.config import SegmenterConfig
from pipeline.errors import WeightsError
from pipeline.models.fitting import FittingBatches
from pipeline.stages import ShouldStop, check, never
from pipeline.types import FaceCrop, HardMask

# Crops at a time. Its attention, with a bias for each pair, takes 2.5 GB a crop at 1024².
BATCH = 2


class SamSegmenter:
    """Masks the face inside each crop; safe to call from several threads at a time.

    `model`: segment-anything's `Sam` in eval mode. `min_quality`: masks whose predicted IoU is
    below it are not trusted.
    """

    def __init__(self, model: Sam, min_quality: float) -> None:
        self._model = model
        self._min_quality = min_quality
        self._fitting = FittingBatches()

    @property
    def networks(self) -> dict[str, torch.nn.Module]:
        """What works inside, by name; the mask decoder is next to nothing beside it."""
        return {"SAM image encoder": self._model.image_encoder}

    @torch.inference_mode()
    def segment(
        self, crops: Sequence[FaceCrop], should_stop: ShouldStop = never
    ) -> list[HardMask | None]:
        """One mask per crop, of its size, in the crops' order; None where the model is unsure.
        Between batches `should_stop` is asked.

        Raises:
            Stopped: it answered True.
        """
        if not crops:
            return []
        prompts = [self._prompt(crop) for crop in crops]
        masks: list[HardMask | None] = []
        for start in range(0, len(prompts), BATCH):
            check(should_stop)
            batch = prompts[start : start + BATCH]
            for outputs in self._fitting.run("SAM", len(batch), partial(self._look, batch)):
                masks += [self._trusted(output) for output in outputs]
        return masks

    def _look(
        self, prompts: list[dict[str, Any]], part: slice, _size: int
    ) -> list[dict[str, torch.Tensor]]:
        outputs: list[dict[str, torch.Tensor]] = self._model(prompts[part], multimask_output=False)
        return outputs

    def _prompt(self, crop: FaceCrop) -> dict[str, Any]:
        """The crop at the model's size with box and centre point, as `Sam.forward` takes them."""
        side_px = self._model.image_encoder.img_size
        device = self._model.device
        pixels = torch.from_numpy(crop.image.pixels.copy()).permute(2, 0, 1)[None]
        small = F.interpolate(pixels, (side_px, side_px), mode="bilinear", antialias=True)[0]
        scale = side_px / crop.region.work_px
        box, (x, y) = crop.box, crop.box.centre_xy
        return {
            "image": small.float().to(device),
            "original_size": (crop.region.work_px, crop.region.work_px),
            "boxes": torch.tensor([[box.x0, box.y0, box.x1, box.y1]], device=device) * scale,
            "point_coords": torch.tensor([[[x, y]]], device=device) * scale,
            "point_labels": torch.ones((1, 1), device=device),
        }

    def _trusted(self, output: dict[str, torch.Tensor]) -> HardMask | None:
        if output["iou_predictions"].item() < self._min_quality:
            return None
        return HardMask(np.ascontiguousarray(output["masks"][0, 0].cpu().numpy()))


def build_sam(config: dict[str, Any]) -> Sam:
    """segment-anything's network, untrained; `config` as in weights/tiny/segmenter/config.json.

    The official vit_b, vit_l and vit_h are this at image 1024, window 14, prompt 256, decoder MLP
    2048, 8 heads, IoU head 256.
    """
    side = config["image_size"] // config["patch_size"]
    channels = config["prompt_embed_dim"]
    return Sam(
        image_encoder=ImageEncoderViT(
            depth=config["encoder_depth"],
            embed_dim=config["encoder_embed_dim"],
            img_size=config["image_size"],
            mlp_ratio=4,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=config["encoder_num_heads"],
            patch_size=config["patch_size"],
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=config["encoder_global_attn_indexes"],
            window_size=config["encoder_window_size"],
            out_chans=channels,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=channels,
            image_embedding_size=(side, side),
            input_image_size=(config["image_size"], config["image_size"]),
            mask_in_chans=config["mask_in_chans"],
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=config["decoder_depth"],
                embedding_dim=channels,
                mlp_dim=config["decoder_mlp_dim"],
                num_heads=config["decoder_num_heads"],
            ),
            transformer_dim=channels,
            iou_head_depth=3,
            iou_head_hidden_dim=config["iou_head_hidden_dim"],
        ),
        pixel_mean=config["pixel_mean"],
        pixel_std=config["pixel_std"],
    )


def load_segmenter(folder: Path, config: SegmenterConfig, device: str) -> SamSegmenter:
    """Build the network of `config.config` and fill it from `config.weights`, both below `folder`.

    Raises:
        WeightsError: a file is missing, cannot be read, or does not fit the network.
    """
    try:
        model = build_sam(json.loads((folder / config.config).read_text(encoding="utf-8")))
        model.load_state_dict(load_file(folder / config.weights))
    except FileNotFoundError as error:
        raise WeightsError(f"segmenter file is missing: {error.filename or error}") from error
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"the segmenter's weights {config.weights} do not fit {config.config}: {error}"
        ) from error
    return make_segmenter(model, config, device)


def make_segmenter(model: Sam, config: SegmenterConfig, device: str) -> SamSegmenter:
    """A network whose weights are in it, ready on its device."""
    model = model.float().eval().requires_grad_(requires_grad=False).to(device)
    return SamSegmenter(model, config.min_quality)

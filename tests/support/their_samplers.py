"""diffusers' schedulers: what the samplers here are compared with."""

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

THEIRS = {
    "euler": (EulerDiscreteScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    # SDXL's own configuration says so; the class's default clips latents to [−1, 1].
    "ddim": (DDIMScheduler, {"clip_sample": False}),
}

"""Kimi-VL: MoonViT, a two-layer projector and the Moonlight mixture-of-experts decoder."""

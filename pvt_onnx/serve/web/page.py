"""The page for people, at ``/``: an image in, the likeliest classes of one or two models out."""

import dataclasses
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from pvt_data.pages import render
from pvt_onnx.serve.models import PROBABILITIES, ServedModel
from pvt_onnx.serve.protocol.answers import Headers
from pvt_onnx.serve.service import Service
from pvt_spec.words import counted

TEMPLATE = Path(__file__).with_name("page.html.jinja")


def make_page(service: Service) -> tuple[bytes, Headers]:
    """Returns the page of a server's models, those that are open, and its headers.

    Nothing on it is fetched from elsewhere, and its scripts and styles alone are obeyed.
    """
    open_ = [entry.model for entry in service.entries() if entry.model and entry.ready]
    nonce = token_urlsafe(16)
    page = render(TEMPLATE, {"models": [describe(each) for each in open_], "nonce": nonce})
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
    return page.encode(), headers


def describe(model: ServedModel) -> dict[str, Any]:
    """Returns what the page says of a model: how it is asked, and its card."""
    info, facts = model.info, model.file.engine.facts
    shown = dataclasses.asdict(info.preprocessing)
    H, W = shown.pop("image_size")
    card = {
        "variant": info.variant or "none that has a name",
        "maths": info.profile,
        "task": info.task.replace("_", " "),
        "classes": counted(info.config.num_classes, "class") if model.has_classes else "none",
        "image": f"{H} x {W} pixels",
        "preprocessing": ", ".join(f"{name} {_short(value)}" for name, value in shown.items()),
        "runs in": f"{facts['framework']} on {facts['provider']}, {facts['precision']}",
        **({"certificate": stamp} if (stamp := model.file.interface.certificate) else {}),
        **{f"from: {name}": value for name, value in info.provenance.items()},
    }
    outputs = [each.name for each in model.outputs]
    shares = PROBABILITIES in outputs
    return {
        "name": model.name,
        "version": model.version,
        "input": model.image.name if model.image else "",
        "output": PROBABILITIES if shares else outputs[0],
        "classes": model.has_classes,
        "shares": shares,
        "card": card,
    }


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_short, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)

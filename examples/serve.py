"""A checkpoint as an HTTP service: `SEQVAE=RUN uvicorn --app-dir examples serve:app` (pip install fastapi uvicorn)."""

import os
from typing import Annotated

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from modeling_seqvae import SeqVAE

vae = SeqVAE.from_pretrained(os.environ["SEQVAE"], device=os.environ.get("DEVICE"))
app = FastAPI(title="seqvae")
Text = Annotated[str, Field(max_length=2000)]


@app.exception_handler(ValueError)
def refused(request: Request, error: ValueError) -> JSONResponse:
    """What the model refuses, such as half of a character."""
    return JSONResponse({"detail": str(error)}, 422)


class Texts(BaseModel):
    """What is encoded or scored."""

    texts: list[Text] = Field(max_length=256)


class Wish(BaseModel):
    """What is to be written."""

    count: int = Field(1, ge=1, le=64)
    seed: int | None = Field(None, ge=0, lt=2**63)
    prompt: Text = ""


@app.post("/encode")
def encode(given: Texts) -> list[list[float]]:
    """Means of q(z|x), a list of Z numbers for each text."""
    return vae.encode(given.texts, "mean", show_progress=False).tolist()


@app.post("/nll")
def nll(given: Texts) -> list[float]:
    """Importance-weighted -log p(x) of each text, in nats."""
    return vae.nll(given.texts, num_samples=50, show_progress=False).tolist()


@app.post("/sample")
def sample(wish: Wish) -> list[str]:
    """New sentences."""
    return vae.sample(wish.count, wish.seed, prompt=wish.prompt, max_new_tokens=60)

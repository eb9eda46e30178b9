"""Contestant at serving: FastAPI with transformers.pipeline, as a tutorial writes it."""

import argparse

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

parser = argparse.ArgumentParser()
parser.add_argument("model")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
torch.set_num_threads(options.threads)
classify = pipeline("text-classification", model=options.model, device="cpu")
app = FastAPI()


class Request(BaseModel):
    """Texts to classify."""

    rows: list[str]


@app.post("/predict")
def predict(request: Request) -> list[dict[str, object]]:
    """Return the label and the score of each text."""
    return list(classify(request.rows, truncation=True))


@app.get("/ready")
def ready() -> str:
    """Say that the model is loaded."""
    return "yes"


uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")

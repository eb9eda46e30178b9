"""An AWS Lambda function that classifies texts with onnxruntime, tokenizers and numpy alone.

It takes the proxy events of API Gateway and of function URLs (versions 1.0 and 2.0), whose body is
{"rows": [...]}, and direct invocations with {"rows": [...]}. A row is a text, or an object with the
input columns. The answer is {"predictions": [...]}, with the rows that `plcli predict` gives, or
{"error": "..."} with a status of 4xx. plcli itself is not needed: `model/` beside this file has
the network, the tokenizer and settings.json.
"""

import base64
import binascii
import functools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

FOLDER = Path(__file__).parent / "model"
MOST_ROWS, MOST_BYTES = 256, 1_000_000
INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
COLUMN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")  # of a template


class Refused(Exception):
    """A request that is wrong; its message is the answer.

    Args:
        message: what is wrong.
        status: of HTTP.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def lambda_handler(event: Any, context: Any) -> dict[str, Any]:
    """Answer an event."""
    is_http = isinstance(event, dict) and bool({"httpMethod", "requestContext"} & event.keys())
    status, headers = 200, {"Content-Type": "application/json"}
    answer: dict[str, Any]
    try:
        answer = {"predictions": model().predict(_rows(_body(event) if is_http else event))}
    except Refused as error:
        answer, status = {"error": str(error)}, error.status
    if not is_http:
        return answer if status == 200 else {**answer, "statusCode": status}
    body = json.dumps(answer, allow_nan=False)
    return {"statusCode": status, "headers": headers, "body": body, "isBase64Encoded": False}


def _body(event: dict[str, Any]) -> Any:
    """Return the JSON of a proxy event's body.

    Raises:
        Refused: if it is not a POST, or no JSON.
    """
    context = event.get("requestContext") or {}
    method = event.get("httpMethod") or (context.get("http") or {}).get("method")
    if method != "POST":
        raise Refused(f"got {method}, expected a POST", 405)
    body = event.get("body") or ""
    if len(body) > MOST_BYTES * 4 / 3:
        raise Refused(f"the body is longer than {MOST_BYTES} bytes", 413)
    try:
        data = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body
        return json.loads(data)
    except (ValueError, RecursionError, binascii.Error) as error:
        raise Refused(f"the body is not JSON in UTF-8: {str(error)[:200]}") from None


def _rows(given: Any) -> list[Any]:
    """Return the rows of a request.

    Raises:
        Refused: if it is not {"rows": [...]}, or has too many.
    """
    rows = given.get("rows") if isinstance(given, dict) and list(given) == ["rows"] else None
    if not isinstance(rows, list):
        raise Refused('expected an object {"rows": [...]}')
    if len(rows) > MOST_ROWS:
        raise Refused(f"got {len(rows)} rows, expected at most {MOST_ROWS}", 413)
    return rows


@functools.cache
def model() -> "Model":
    """Return the model, which is loaded by the first request."""
    return Model(FOLDER)


class Model:
    """A classifier.

    Args:
        folder: with model.onnx, tokenizer.json and settings.json.
    """

    def __init__(self, folder: Path) -> None:
        self.settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(
            self.settings["max_length"], direction=self.settings["truncation_side"]
        )
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=providers)
        self.names = [each.name for each in self.session.get_inputs()]

    def predict(self, rows: list[Any]) -> list[dict[str, Any]]:
        """Return the predictions of rows, in their order.

        Raises:
            Refused: if a row is wrong.
        """
        name = self.settings["id"]
        have_ids = bool(name) and all(isinstance(row, dict) and name in row for row in rows)
        texts = [self._text(row, number) for number, row in enumerate(rows, start=1)]
        ids = [row[name] for row in rows] if have_ids else list(range(len(rows)))
        logits = self._logits(self.tokenizer.encode_batch(texts) if texts else [])
        return [
            {(name if have_ids else "id"): row_id, **self._decided(each)}
            for row_id, each in zip(ids, logits, strict=True)
        ]

    def _text(self, row: Any, number: int) -> Any:
        """Return the text of a row, or two texts.

        Raises:
            Refused: if a column is missing, or is not a text.
        """
        inputs, template = self.settings["inputs"], self.settings["template"]
        if isinstance(row, str) and len(inputs) == 1:
            row = {inputs[0]: row}
        if not isinstance(row, dict):
            columns = ", ".join(inputs)
            raise Refused(f"rows, row {number}: got {row!r:.60}, expected an object with {columns}")
        cells = {name: self._cell(row, name, number) for name in inputs}
        if self.settings["empty"] == "refuse" and not all(each.strip() for each in cells.values()):
            raise Refused(f"rows, row {number}: has an empty text")
        if template is not None:
            return COLUMN.sub(lambda part: cells.get(part[1], part[0][0]), template)
        return tuple(cells.values()) if len(inputs) == 2 else cells[inputs[0]]

    @staticmethod
    def _cell(row: dict[str, Any], name: str, number: int) -> str:
        if name not in row:
            raise Refused(f"rows, row {number}: has no column '{name}'")
        value = row[name]
        if isinstance(value, (list, dict)) or "\0" in str(value):
            raise Refused(f"rows, row {number}: column '{name}' contains {value!r:.60}, not text")
        return "" if value is None or value != value else str(value)

    def _logits(self, encodings: list[Any]) -> list[Any]:
        """Return the logits of each row; rows of one length are run together, without padding."""
        found: list[Any] = [None] * len(encodings)
        lengths = [len(each.ids) for each in encodings]
        for length in sorted(set(lengths)):
            places = [place for place, each in enumerate(lengths) if each == length]
            values = {
                name: np.array(
                    [getattr(encodings[place], INPUTS[name]) for place in places], np.int64
                )
                for name in self.names
            }
            logits = self.session.run(["logits"], values)[0]
            for place, row in zip(places, logits, strict=True):
                found[place] = row
        return found

    def _decided(self, logits: Any) -> dict[str, Any]:
        """Return the label of a row, or labels, with their probabilities."""
        settings, names = self.settings, self.settings["labels"]
        scaled = logits.astype(np.float32) / np.float32(settings["temperature"])
        if settings["several"]:
            chances = 1 / (1 + np.exp(-scaled))
        else:
            powers = np.exp(scaled - scaled.max())
            chances = powers / powers.sum()
        shown = [None if math.isnan(each) else float(each) for each in chances]
        probability = dict(zip(names, shown, strict=True))
        least = settings["thresholds"]
        if settings["several"]:
            enough = np.array([least.get(name, 0.5) for name in names], np.float32)
            chosen = [name for name, flag in zip(names, chances >= enough, strict=True) if flag]
            return {"labels": chosen, "probability": probability}
        best = int(logits.argmax())
        for name, value in least.items():  # of one of two classes
            place = names.index(name)
            best = place if chances[place] >= np.float32(value) else 1 - place
        score, limit = shown[best], settings["abstain_below"]
        unsure = score is None or (limit is not None and score < limit)
        label = None if unsure else names[best]
        return {"label": label, "score": score, "probability": probability}

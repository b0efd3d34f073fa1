"""`perdure predict`: a line of JSON for every line of the input, from an exported model."""

import json

from cloud.store import Writer
from entrypoint.console import Console
from entrypoint.model import fetched_model
from entrypoint.output import STANDARD, opened_output
from entrypoint.requests import Request, Requests
from entrypoint.settings import JobConfig
from entrypoint.stop import Stop
from trainer.exported import BadRequest, Model


def run(config: JobConfig, stop: Stop, console: Console) -> int:
    """Answer every request, in order, in bounded memory. Returns the exit code."""
    num_answers = 0
    with fetched_model(config, stop) as model, opened_output(config) as output:
        requests = Requests(config, model.task.request_field, stop)
        for batch in requests.batches():
            stop.check()
            _answer(model, requests, batch, output)
            num_answers += len(batch)
    if config.output not in ("", STANDARD):  # else stdout is for answers alone
        console.line("predict", f"{num_answers} answers in {config.output}", num_answers=num_answers)
    return 0


def _answer(model: Model, requests: Requests, batch: list[Request], output: Writer) -> None:
    try:
        answers = model.answers([request.fields for request in batch])
    except BadRequest as error:
        raise requests.fault(batch[error.number].line, str(error)) from error
    lines = []
    for request, answer in zip(batch, answers, strict=True):
        kept = {name: request.fields[name] for name in ("id", model.task.request_field) if name in request.fields}
        lines.append(json.dumps({**kept, **answer}, ensure_ascii=False) + "\n")
    output.write("".join(lines).encode("utf-8", "surrogatepass"))

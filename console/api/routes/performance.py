"""How right a model was."""

from __future__ import annotations

from litestar import Response, get

from console.api.labelled import labels_with, period_of
from console.api.model_performance import Decided, PerformanceAnswer, decided, performance
from console.api.requests import Asked, AsOf, Name, Time, desk, json, time_of, unchanging
from console.api.views import Columns
from projections.engine.states import States


@get("/v1/models/{id:str}/performance", tags=["models"], summary="How right a model was on judged payments")
async def model_performance(
    request: Asked, id: Name, start: Time = None, end: Time = None, as_of: AsOf = None
) -> Response[PerformanceAnswer]:
    """On the payments that it decided: calibration, precision and recall, and the amount caught, by the labels known at
    the moment. `start` is inclusive, `end` exclusive; by default the 30 days before the moment. A model that decided
    nothing has 0 decisions.
    """
    here = desk(request)
    first, last = time_of("start", start), time_of("end", end)

    def answer() -> PerformanceAnswer:
        def look(states: States, columns: dict[int, Columns]) -> tuple[Decided, str, int, int]:
            since, until = period_of(states, first, last)
            names = here.views.index.names
            number = names.index(id) if id in names else -1
            return decided(columns, number, since, until), states.as_of, since, until

        view, (found, cut, since, until) = labels_with(here, as_of, look)
        return performance(found, view, id, cut, since, until)

    made = await here.run_heavy(answer)
    return json(made) if as_of is None else unchanging(request, made)


HANDLERS = [model_performance]

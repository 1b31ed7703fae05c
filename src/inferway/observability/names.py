"""Names that more than one room, or somebody else's dashboard, depends on.

Problem: a header or metric name that is spelled in two places is one day spelled in two ways.
Model: constants, nothing else. A name that only one room uses stays in that room. Header names
are lower case, as HTTP/2 carries them.
"""

from __future__ import annotations

from typing import Final

METRIC_PREFIX: Final = "inferway_"
# Series whose meaning is the same as in the reference endpoint picker carry its name too, so that
# existing dashboards work.
REFERENCE_METRIC_PREFIX: Final = "llm_d_epp_"
# A label that clients can choose has at most so many values per process; the rest is counted
# under OTHER_LABEL.
LABEL_VALUES_MAX: Final = 1_000
OTHER_LABEL: Final = "other"

REQUEST_ID_HEADER: Final = "x-request-id"
MODEL_NAME_HEADER: Final = "x-gateway-model-name"
BASE_MODEL_NAME_HEADER: Final = "x-gateway-base-model-name"
DESTINATION_HEADER: Final = "x-gateway-destination-endpoint"
# Headers that routing believes: a client that sends one is not heard.
TRUST_HEADERS: Final = (
    MODEL_NAME_HEADER,
    BASE_MODEL_NAME_HEADER,
    DESTINATION_HEADER,
    f"{DESTINATION_HEADER}-served",
    f"{DESTINATION_HEADER}-subset",
    # Upstream's wish of a client for a target; here InferenceModels and rewrites alone say that.
    f"{MODEL_NAME_HEADER}-rewrite",
    "x-llm-d-model-name-rewrite",
)
DROPPED_REASON_HEADER: Final = "x-inferway-dropped-reason"
# In the order in which they are believed: the product's own spelling first.
OBJECTIVE_HEADERS: Final = ("x-gateway-inference-objective", "x-llm-d-inference-objective")
FAIRNESS_HEADERS: Final = ("x-gateway-inference-fairness-id", "x-llm-d-inference-fairness-id")

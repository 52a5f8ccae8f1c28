"""A pytest plugin for mutation testing: fewer examples, always the same, and no shrinking.

The first example that fails kills a mutant; nobody needs a smaller one.
"""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "mutants",
    phases=(Phase.explicit, Phase.generate),
    max_examples=50,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("mutants")

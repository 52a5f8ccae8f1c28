"""A pytest plugin for mutation testing: fewer examples, always the same, and no shrinking.

A mutant is killed by the first example that fails; a smaller one would be found for nobody.
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

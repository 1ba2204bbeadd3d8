"""What sampling costs. Needs no torch."""


def network_evaluations(kind: str, steps: int, corrections: int = 1) -> int:
    """What `steps` steps of a sampler cost, in passes of the network: `kind` as in a model card's refiner.

    A step of Heun's method is two, but for the last, which goes to 0: 7 steps are 13.
    """
    if kind == "heun":
        return max(0, 2 * steps - 1)
    return steps * (corrections if kind == "edm" else 1)

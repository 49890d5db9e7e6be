"""The arms of notebook 09, from its parameters: what is set against what."""

from collections.abc import Sequence
from dataclasses import dataclass

from labutils.yardsticks.damage import parse_arm
from labutils.yardsticks.sizes import equal_bits_arm

# They leave kept weights as they are, and so can come second; what 2405.20935 proves is proved for magnitude.
ORDER_METHODS = ("magnitude", "wanda")


@dataclass(frozen=True)
class ArmPlan:
    """What is done to a model.

    >>> ArmPlan(["wanda"], [0.25, 0.6], "2:4", ["rtn4"], "wanda", [0.5], ["rtn4"], [1]).every

    Attributes:
        methods, sparsities: of unstructured prunings; the pattern's own share of zeros is added.
        pattern: N:M, by every method.
        kinds: of quantisation.
        rival: the method that prunes to the bits of each kind.
        order_sparsities, order_kinds: pruned before and after quantisation, by each of `order_methods`.
        blocks: numbers of blocks left out.
    """

    methods: Sequence[str]
    sparsities: Sequence[float]
    pattern: str
    kinds: Sequence[str]
    rival: str
    order_sparsities: Sequence[float]
    order_kinds: Sequence[str]
    blocks: Sequence[int]
    order_methods: Sequence[str] = ORDER_METHODS

    @property
    def share(self) -> float:
        """Of zeros in the pattern: 0.5 in 2:4."""
        return parse_arm(f"{self.methods[0]}/{self.pattern}")[0].amount

    @property
    def pruned(self) -> dict[str, list[str]]:
        """Method → its unstructured arms, by sparsity."""
        shares = sorted({*self.sparsities, self.share})
        return {method: [f"{method}@{share}" for share in shares] for method in self.methods}

    @property
    def unstructured(self) -> list[str]:
        """All unstructured arms."""
        return sum(self.pruned.values(), [])

    @property
    def at_share(self) -> list[str]:
        """Of every method the unstructured arm with as many zeros as the pattern has."""
        return [f"{method}@{self.share}" for method in self.methods]

    @property
    def patterned(self) -> list[str]:
        """Of every method the arm with the pattern, in the order of `at_share`."""
        return [f"{method}/{self.pattern}" for method in self.methods]

    @property
    def equal_bits(self) -> dict[str, str]:
        """Kind of quantisation → the pruning of as many bits."""
        return {kind: equal_bits_arm(kind, self.rival) for kind in self.kinds}

    @property
    def combined(self) -> list[str]:
        """The rival's pruning to the pattern's share of zeros, then every kind: both at once, as files are made."""
        return [f"{self.rival}@{self.share}+{kind}" for kind in self.kinds]

    @property
    def ordered(self) -> list[str]:
        """Pruned and quantised in both orders, and either alone."""
        prunings = [f"{method}@{share}" for method in self.order_methods for share in self.order_sparsities]
        both = [(f"{pruning}+{kind}", f"{kind}+{pruning}") for pruning in prunings for kind in self.order_kinds]
        return [*prunings, *self.order_kinds, *sum(both, ())]

    @property
    def shortened(self) -> dict[int, str]:
        """Blocks left out → the arm."""
        return {n: f"blocks@{n}" for n in self.blocks}

    @property
    def sized(self) -> list[str]:
        """The arms that answer questions and whose bits per weight can be counted."""
        return list(dict.fromkeys([*self.kinds, *self.equal_bits.values(), *self.unstructured, *self.combined]))

    @property
    def asked(self) -> list[str]:
        """The arms that are read by every yardstick, each once."""
        return list(dict.fromkeys([*self.unstructured, *self.patterned, *self.sized, *self.shortened.values()]))

    @property
    def texts_only(self) -> list[str]:
        """The other arms of the question which comes first: only their loss is read."""
        return [arm for arm in dict.fromkeys(self.ordered) if arm not in self.asked]

    @property
    def every(self) -> list[str]:
        """All arms, each once."""
        return [*self.asked, *self.texts_only]

    def amounts(self) -> dict[str, float]:
        """Unstructured arm → its share of zeros."""
        return {arm: parse_arm(arm)[0].amount for arm in self.unstructured}

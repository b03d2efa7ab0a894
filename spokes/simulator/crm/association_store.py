"""Associations between the objects of a portal. Every association is stored in both directions."""

from collections.abc import Callable, Iterable, Iterator

from spokes.simulator.changes import AssociationEnd, AssociationSpec, ChangeSource, ObjectRef
from spokes.simulator.crm.association_types import AssociationType, AssociationTypes
from spokes.simulator.crm.object_types import ObjectType

Labels = dict[AssociationSpec, AssociationType]
OnAssociation = Callable[[ObjectRef, AssociationEnd, ChangeSource], None]


class AssociationStore:
    """The associations of one portal; `on_association` is called for each changed label, once per direction."""

    def __init__(self, types: AssociationTypes, on_association: OnAssociation) -> None:
        self.types = types
        self._on_association = on_association
        self._links: dict[ObjectRef, dict[ObjectRef, Labels]] = {}

    def associations_of(self, ref: ObjectRef, to_type: ObjectType) -> list[tuple[str, list[AssociationType]]]:
        """Return the associated objects of one type: ids and labels, in the order they were added."""
        links = self._links.get(ref, {})
        return [(to.object_id, list(labels.values())) for to, labels in links.items() if to.type_id == to_type.type_id]

    def add(
        self, from_: ObjectRef, to: ObjectRef, association_types: Iterable[AssociationType], source: ChangeSource
    ) -> None:
        """Add labels to a pair; a primary label also adds the unlabelled association."""
        for association_type in _with_unlabelled(association_types, self._unlabelled(from_, to)):
            self._add_label(from_, to, association_type, source)

    def replace(
        self, from_: ObjectRef, to: ObjectRef, association_types: Iterable[AssociationType], source: ChangeSource
    ) -> None:
        """Replace the labels of a pair by these."""
        wanted = _with_unlabelled(association_types, self._unlabelled(from_, to))
        for association_type in self._labels(from_, to):
            if association_type not in wanted:
                self._remove_label(from_, to, association_type, source)
        for association_type in wanted:
            self._add_label(from_, to, association_type, source)

    def remove(
        self, from_: ObjectRef, to: ObjectRef, source: ChangeSource, *, only: Iterable[AssociationSpec] | None = None
    ) -> None:
        """Remove these labels of a pair, or all."""
        specs = None if only is None else set(only)
        for association_type in self._labels(from_, to):
            if specs is None or association_type.spec in specs:
                self._remove_label(from_, to, association_type, source)

    def erase(self, ref: ObjectRef) -> None:
        """Remove the associations of an erased object without reporting changes."""
        for to in self._links.pop(ref, {}):
            self._links.get(to, {}).pop(ref, None)

    def move(self, old: ObjectRef, new: ObjectRef) -> None:
        """Move a merged record's associations to its survivor without reporting changes."""
        for to, labels in self._links.pop(old, {}).items():
            reverse = self._links.get(to, {}).pop(old, {})
            if to != new:
                self._links.setdefault(new, {}).setdefault(to, {}).update(labels)
                self._links.setdefault(to, {}).setdefault(new, {}).update(reverse)

    def all_associations(self) -> Iterator[tuple[ObjectRef, ObjectRef, list[AssociationSpec]]]:
        """Yield every association in both directions."""
        for from_, links in self._links.items():
            for to, labels in links.items():
                yield from_, to, list(labels)

    def _labels(self, from_: ObjectRef, to: ObjectRef) -> list[AssociationType]:
        return list(self._links.get(from_, {}).get(to, {}).values())

    def _unlabelled(self, from_: ObjectRef, to: ObjectRef) -> AssociationType:
        return self.types.unlabelled(from_.type_id, to.type_id)

    def _add_label(
        self, from_: ObjectRef, to: ObjectRef, association_type: AssociationType, source: ChangeSource
    ) -> None:
        labels = self._links.setdefault(from_, {}).setdefault(to, {})
        if association_type.spec in labels:
            return
        labels[association_type.spec] = association_type
        reverse = self.types.reverse(association_type)
        self._links.setdefault(to, {}).setdefault(from_, {})[reverse.spec] = reverse
        self._report_label(from_, to, association_type, source, removed=False)

    def _remove_label(
        self, from_: ObjectRef, to: ObjectRef, association_type: AssociationType, source: ChangeSource
    ) -> None:
        reverse = self.types.reverse(association_type)
        for start, end, label in ((from_, to, association_type), (to, from_, reverse)):
            labels = self._links[start][end]
            labels.pop(label.spec, None)
            if not labels:
                del self._links[start][end]
        self._report_label(from_, to, association_type, source, removed=True)

    def _report_label(
        self, from_: ObjectRef, to: ObjectRef, association_type: AssociationType, source: ChangeSource, *, removed: bool
    ) -> None:
        """Report both directions, because each can have subscriptions."""
        reverse = self.types.reverse(association_type)
        self._on_association(
            from_, AssociationEnd(to, association_type.spec, removed=removed, primary=association_type.primary), source
        )
        self._on_association(to, AssociationEnd(from_, reverse.spec, removed=removed, primary=reverse.primary), source)


def _with_unlabelled(
    association_types: Iterable[AssociationType], unlabelled: AssociationType
) -> list[AssociationType]:
    """Return the labels, and the unlabelled association if one of them is primary."""
    labels = list(association_types)
    if any(association_type.primary for association_type in labels) and unlabelled not in labels:
        labels.append(unlabelled)
    return labels

"""Which objects of a portal belong together. Rule: every association is held in both directions, or in neither."""

from collections.abc import Callable, Iterable, Iterator

from spokes.simulator.changes import AssociationEnd, AssociationSpec, ChangeSource, ObjectRef
from spokes.simulator.crm.association_types import AssociationType, AssociationTypes
from spokes.simulator.crm.object_types import ObjectType

Labels = dict[AssociationSpec, AssociationType]
OnAssociation = Callable[[ObjectRef, AssociationEnd, ChangeSource], None]


class AssociationStore:
    """The associations of one portal; tells `on_association` of each label made or removed, once per direction."""

    def __init__(self, types: AssociationTypes, on_association: OnAssociation) -> None:
        self.types = types
        self._on_association = on_association
        self._links: dict[ObjectRef, dict[ObjectRef, Labels]] = {}

    def associations_of(self, ref: ObjectRef, to_type: ObjectType) -> list[tuple[str, list[AssociationType]]]:
        """The far ends of one type: id and labels, in the order they were made."""
        links = self._links.get(ref, {})
        return [(to.object_id, list(labels.values())) for to, labels in links.items() if to.type_id == to_type.type_id]

    def add(
        self, from_: ObjectRef, to: ObjectRef, association_types: Iterable[AssociationType], source: ChangeSource
    ) -> None:
        """Give the pair these labels beside those it has; a primary one brings the plain one along."""
        for association_type in _with_unlabelled(association_types, self._unlabelled(from_, to)):
            self._add_label(from_, to, association_type, source)

    def replace(
        self, from_: ObjectRef, to: ObjectRef, association_types: Iterable[AssociationType], source: ChangeSource
    ) -> None:
        """Give the pair exactly these labels: those that are not repeated are lost."""
        kept = _with_unlabelled(association_types, self._unlabelled(from_, to))
        for association_type in self._labels(from_, to):
            if association_type not in kept:
                self._remove_label(from_, to, association_type, source)
        for association_type in kept:
            self._add_label(from_, to, association_type, source)

    def remove(
        self, from_: ObjectRef, to: ObjectRef, source: ChangeSource, *, only: Iterable[AssociationSpec] | None = None
    ) -> None:
        """Take away these labels, or all of them."""
        specs = None if only is None else set(only)
        for association_type in self._labels(from_, to):
            if specs is None or association_type.spec in specs:
                self._remove_label(from_, to, association_type, source)

    def erase(self, ref: ObjectRef) -> None:
        """Drop an object that was erased, without telling anyone."""
        for to in self._links.pop(ref, {}):
            self._links.get(to, {}).pop(ref, None)

    def move(self, old: ObjectRef, new: ObjectRef) -> None:
        """Hand what belonged to a merged record to its survivor, without telling anyone."""
        for to, labels in self._links.pop(old, {}).items():
            back = self._links.get(to, {}).pop(old, {})
            if to != new:
                self._links.setdefault(new, {}).setdefault(to, {}).update(labels)
                self._links.setdefault(to, {}).setdefault(new, {}).update(back)

    def all_associations(self) -> Iterator[tuple[ObjectRef, ObjectRef, list[AssociationSpec]]]:
        """Every association in both its directions."""
        for from_, links in self._links.items():
            for to, labels in links.items():
                yield from_, to, list(labels)

    def _labels(self, from_: ObjectRef, to: ObjectRef) -> list[AssociationType]:
        return list(self._links.get(from_, {}).get(to, {}).values())

    def _unlabelled(self, from_: ObjectRef, to: ObjectRef) -> AssociationType:
        return self.types.unlabelled(from_.type_id, to.type_id)

    def _add_label(self, from_: ObjectRef, to: ObjectRef, there: AssociationType, source: ChangeSource) -> None:
        labels = self._links.setdefault(from_, {}).setdefault(to, {})
        if there.spec in labels:
            return
        labels[there.spec] = there
        back = self.types.reverse(there)
        self._links.setdefault(to, {}).setdefault(from_, {})[back.spec] = back
        self._report_label(from_, to, there, source, removed=False)

    def _remove_label(self, from_: ObjectRef, to: ObjectRef, there: AssociationType, source: ChangeSource) -> None:
        back = self.types.reverse(there)
        for near, far, label in ((from_, to, there), (to, from_, back)):
            labels = self._links[near][far]
            labels.pop(label.spec, None)
            if not labels:
                del self._links[near][far]
        self._report_label(from_, to, there, source, removed=True)

    def _report_label(
        self, from_: ObjectRef, to: ObjectRef, there: AssociationType, source: ChangeSource, *, removed: bool
    ) -> None:
        """Both directions, since each may have somebody who listens."""
        back = self.types.reverse(there)
        self._on_association(from_, AssociationEnd(to, there.spec, removed=removed, primary=there.primary), source)
        self._on_association(to, AssociationEnd(from_, back.spec, removed=removed, primary=back.primary), source)


def _with_unlabelled(made: Iterable[AssociationType], plain: AssociationType) -> list[AssociationType]:
    """The labels, and the plain one where a primary one implies it."""
    wanted = list(made)
    if any(association_type.primary for association_type in wanted) and plain not in wanted:
        wanted.append(plain)
    return wanted

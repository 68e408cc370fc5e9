"""What is common to the objects that wrap a handle of the library's."""

from __future__ import annotations

from ctypes import POINTER, Structure, pointer
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar

from .errors import check

if TYPE_CHECKING:
    from ctypes import _Pointer
    from types import TracebackType

T = TypeVar("T", bound=Structure)
Self = TypeVar("Self", bound="Handle[Any]")


class Handle(Generic[T]):
    """Closed by ``with``, by :meth:`close` or by the garbage collector, in any order.

    The handle itself is freed when nothing uses it any more: not while another thread is in a call
    with it, nor while what was borrowed from it is alive.
    """

    _pointer: _Pointer[T] | None

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} has no constructor; see help({type(self).__name__})")

    @classmethod
    def _wrap(cls: type[Self], pointer: _Pointer[Any]) -> Self:
        self = cls.__new__(cls)
        self._pointer = pointer
        return self

    @property
    def _handle(self) -> _Pointer[T]:
        """The pointer for a call, which keeps it alive."""
        if self._pointer is None:
            raise ValueError(f"{type(self).__name__} is closed")
        return self._pointer

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` has been called."""
        return self._pointer is None

    def close(self) -> None:
        """Lets go of the object's memory. Closing twice is fine."""
        self._pointer = None

    def __enter__(self: Self) -> Self:
        self._handle  # noqa: B018 - raises when closed
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        text = "closed" if self._pointer is None else self._describe()
        return f"<{type(self).__name__}{' ' * bool(text)}{text}>"

    def _describe(self) -> str:
        return ""


class _Releaser:
    """Frees a handle when the pointer that it belongs to goes."""

    __slots__ = ("free", "pointer")

    def __init__(self, free: Callable[[Any], None], pointer: Any):
        self.free = free
        self.pointer = pointer

    def __del__(self) -> None:
        self.free(self.pointer)


def create(
    struct: type[T],
    free: Callable[[_Pointer[T]], None],
    call: Callable[[_Pointer[_Pointer[T]]], int],
) -> _Pointer[T]:
    """A handle that ``call`` makes, to be freed by ``free``."""
    made = POINTER(struct)()
    status = call(pointer(made))
    if status == 0:
        own(made, free)
    check(status)
    return made


def own(made: _Pointer[T], free: Callable[[_Pointer[T]], None]) -> _Pointer[T]:
    """Has a handle freed with the last reference to the pointer."""
    return _keep(made, _Releaser(free, type(made).from_buffer_copy(made)))


def borrow(pointer: _Pointer[T], owner: _Pointer[Any]) -> _Pointer[T]:
    """Keeps the handle that ``pointer`` was borrowed from alive for as long as ``pointer``."""
    return _keep(pointer, owner)


def _keep(pointer: _Pointer[T], kept: object) -> _Pointer[T]:
    setattr(pointer, "_kept", kept)  # noqa: B010 - ctypes' pointers take any attribute
    return pointer


def handle_of(value: Handle[T], kind: type[Handle[T]], name: str) -> _Pointer[T]:
    """The handle of an argument, which must be of this kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {kind.__name__}, not {type(value).__name__}")
    if value.closed:
        raise ValueError(f"{name} is closed")
    return value._handle

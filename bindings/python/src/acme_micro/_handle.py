"""The base class of the objects that own a handle of the library."""

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
    """An object with a handle, closed by ``with``, by :meth:`close` or by the garbage collector.

    The handle is freed when nothing uses it any more: a call on another thread and an object that was
    borrowed from it keep it alive. So objects can be closed in any order.
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
        """The pointer for a call. The reference to it keeps the handle alive."""
        if self._pointer is None:
            raise ValueError(f"{type(self).__name__} is closed")
        return self._pointer

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` has been called."""
        return self._pointer is None

    def close(self) -> None:
        """Closes the object. A second call has no effect."""
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
    """Frees a handle when its pointer is collected."""

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
    """Creates a handle by ``call``; ``free`` frees it."""
    made = POINTER(struct)()
    status = call(pointer(made))
    if status == 0:
        own(made, free)
    check(status)
    return made


def own(made: _Pointer[T], free: Callable[[_Pointer[T]], None]) -> _Pointer[T]:
    """Frees the handle together with the last reference to the pointer."""
    return _keep(made, _Releaser(free, type(made).from_buffer_copy(made)))


def borrow(pointer: _Pointer[T], owner: _Pointer[Any]) -> _Pointer[T]:
    """Keeps ``owner``, from which ``pointer`` was borrowed, alive as long as ``pointer``."""
    return _keep(pointer, owner)


def _keep(pointer: _Pointer[T], kept: object) -> _Pointer[T]:
    setattr(pointer, "_kept", kept)  # noqa: B010 - a pointer of ctypes takes any attribute
    return pointer


def handle_of(value: Handle[T], kind: type[Handle[T]], name: str) -> _Pointer[T]:
    """Returns the handle of an argument, after a check of its class."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {kind.__name__}, not {type(value).__name__}")
    if value.closed:
        raise ValueError(f"{name} is closed")
    return value._handle

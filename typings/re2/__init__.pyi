from enum import Enum

from . import _re2 as _re2

class error(Exception): ...

class _Encoding(Enum):
    UTF8 = ...
    LATIN1 = ...

class Options:
    Encoding: type[_Encoding]
    encoding: _Encoding
    dot_nl: bool
    log_errors: bool
    max_mem: int

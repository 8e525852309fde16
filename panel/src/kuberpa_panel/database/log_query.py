"""What to look for in the log: words as people type them become a tsquery, fields become lexemes of the same index.

total differs          both words, anywhere in the line
"total differs"        one after the other; so is invoice-17.pdf, whatever is between its words
inv*                   words that begin so
-heartbeat             not this word (or phrase)
robot:mail level:error fields, as the filters beside it
"""

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from kuberpa_panel.database.log_rows import LEVELS, STREAMS, LogRecord, LogSource

PUNCTUATION: Final = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»„“”–—…№"  # noqa: RUF001  they are those characters
"""What separates words, as in the generated column of the table."""
MAX_TERMS: Final = 32
_SPACES: Final = str.maketrans(dict.fromkeys(PUNCTUATION, " "))
_TERM: Final = re.compile(r'(-?)(?:(\w+):)?(?:"([^"]*)"|(\S+))')
FIELDS: Final = ("namespace", "robot", "activity", "definition", "source", "level", "stream")


class LogQueryError(ValueError):
    """What somebody looks for cannot be looked for; `field` is where it stands."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Term:
    """A word or a phrase, without punctuation."""

    words: str
    prefix: bool = False
    without: bool = False


@dataclass(frozen=True, slots=True)
class LogScope:
    """What a viewer may see of the log."""

    everywhere: bool = False
    namespaces: frozenset[str] = frozenset()
    """All lines of these."""
    robots: frozenset[tuple[str, str]] = frozenset()
    """(namespace, name): in namespaces where not every robot may be seen, the lines of these."""
    audit: frozenset[str] | None = frozenset()
    """Where deeds may be seen; None: everywhere."""

    def __bool__(self) -> bool:
        return self.everywhere or bool(self.namespaces or self.robots)

    def includes(self, line: LogRecord) -> bool:
        """Whether the line may be seen."""
        if line.source is LogSource.AUDIT and self.audit is not None and line.namespace not in self.audit:
            return False
        here = line.namespace in self.namespaces or (line.namespace, line.robot) in self.robots
        return self.everywhere or here


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which lines. Empty means all."""

    terms: tuple[Term, ...] = ()
    namespace: str = ""
    robot: str = ""
    activity: str = ""
    definition: str = ""
    sources: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    uid: str = ""
    without: tuple[tuple[str, str], ...] = ()
    """(field, value) that lines must not have."""
    since: datetime | None = None
    until: datetime | None = None
    scope: LogScope = field(default_factory=LogScope)

    @property
    def whole_streams(self) -> bool:
        """Whether all lines of whatever is shown are shown: then missing numbers are lost lines."""
        hiding = any(column in {"level", "stream"} for column, _ in self.without)
        return not (self.terms or self.levels or self.streams or hiding)


def with_text(base: LogFilter, text: str) -> LogFilter:
    """The filter and what the text asks for besides. Raises LogQueryError."""
    if "\0" in text:
        raise LogQueryError("text", "text: NUL is in no line")
    if text.count('"') % 2:
        raise LogQueryError("text", 'text: a phrase has no closing ": write "total differs"')
    terms: list[Term] = []
    for without, key, phrase, word in _TERM.findall(text):
        if key in FIELDS:
            base = without_field(base, key, phrase or word) if without else with_field(base, key, phrase or word)
            continue
        raw = phrase or word
        words = " ".join(f"{key} {raw}".translate(_SPACES).split())
        if words:
            terms.append(Term(words, prefix=word.endswith("*"), without=bool(without)))
        elif raw.strip("*-\"' ") == "" and not raw:
            raise LogQueryError("text", 'text: "" is empty; write a word in it')
    if len(terms) > MAX_TERMS:
        raise LogQueryError("text", f"text: {len(terms)} words and phrases; at most {MAX_TERMS}")
    if text.strip() and not terms and base.terms == () and not any(f"{key}:" in text for key in FIELDS):
        raise LogQueryError("text", f"text: {text[:40]!r} has no letter or digit to look for")
    return replace(base, terms=(*base.terms, *terms))


def with_field(base: LogFilter, key: str, value: str) -> LogFilter:
    """The filter with one more field. Raises LogQueryError for a value that no line has."""
    changes: dict[str, Any]
    match key:
        case "level":
            changes = {"levels": (*base.levels, _one_of("level", value.upper(), LEVELS))}
        case "source":
            changes = {"sources": (*base.sources, _one_of("source", value.lower(), tuple(LogSource)))}
        case "stream":
            changes = {"streams": (*base.streams, _one_of("stream", value.lower(), STREAMS))}
        case _:
            changes = {key: value}
    return replace(base, **changes)


def without_field(base: LogFilter, key: str, value: str) -> LogFilter:
    """The filter for lines that have another value there."""
    value = value.upper() if key == "level" else value
    return replace(base, without=(*base.without, (key, value)))


def at_least(level: str) -> tuple[str, ...]:
    """This level and those above it."""
    return LEVELS[LEVELS.index(_one_of("level", level.upper(), LEVELS)) :]


def _one_of(field_: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise LogQueryError(field_, f"{field_}: {value[:40]!r} is none of {', '.join(known)}")
    return str(value)


@dataclass(slots=True)
class Clause:
    """Conditions with numbered parameters."""

    conditions: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def param(self, value: Any) -> str:
        """The placeholder of one more value."""
        self.values.append(value)
        return f"${len(self.values)}"

    def add(self, condition: str, *values: Any) -> None:
        """One more condition; each {} is a value's place."""
        self.conditions.append(condition.format(*(self.param(value) for value in values)))

    @property
    def sql(self) -> str:
        """All of them."""
        return " AND ".join(self.conditions) or "true"


def tsquery_of(wanted: LogFilter) -> tuple[str, list[Any]]:
    """An SQL expression that makes the tsquery of all words and fields, and its parameters; empty without any."""
    clause = Clause()
    parts = [_term(clause, term) for term in wanted.terms]
    lexemes: list[list[str]] = []
    scope = wanted.scope
    if wanted.robot and wanted.namespace:
        lexemes.append([f"r:{wanted.namespace}/{wanted.robot}"])
    elif wanted.namespace and not wanted.activity:
        lexemes.append([f"n:{wanted.namespace}"])
    elif not scope.everywhere and 0 < len(scope.namespaces) + len(scope.robots) <= MAX_TERMS:
        lexemes.append(
            [f"n:{each}" for each in sorted(scope.namespaces)] + [f"r:{n}/{r}" for n, r in sorted(scope.robots)]
        )
    if wanted.activity and wanted.namespace:
        lexemes.append([f"a:{wanted.namespace}/{wanted.activity}"])
    if wanted.definition:
        lexemes.append([f"d:{wanted.definition}"])
    if wanted.sources:
        lexemes.append([f"s:{each}" for each in wanted.sources])
    parts += [f"{clause.param(' | '.join(map(_quoted, each)))}::text::tsquery" for each in lexemes]
    return " && ".join(parts), clause.values


def _term(clause: Clause, term: Term) -> str:
    words = f'lower({clause.param(term.words)}::text COLLATE "pg_c_utf8")'
    made = f"phraseto_tsquery('simple', {words})"
    if term.prefix:
        made = f"to_tsquery('simple', quote_literal({words}) || ':*')"
    return f"!!({made})" if term.without else made


def _quoted(lexeme: str) -> str:
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def conditions(wanted: LogFilter, tsquery: str) -> Clause:
    """Everything but time and place, as SQL."""
    clause = Clause()
    if tsquery:
        clause.add("words @@ {}::text::tsquery", tsquery)
    for column in ("namespace", "robot", "activity", "definition", "uid"):
        if value := getattr(wanted, column):
            clause.add(f"{column} = {{}}", value)
    for column, values in (("level", wanted.levels), ("source", wanted.sources), ("stream", wanted.streams)):
        if values:
            clause.add(f"{column} = ANY({{}}::text[])", list(values))
    for column, value in wanted.without:
        clause.add(f"{column} <> {{}}", value)
    scope = wanted.scope
    if not scope.everywhere:
        robots = sorted(scope.robots)
        clause.add(
            "(namespace = ANY({}::text[]) OR (namespace, robot) IN (SELECT * FROM unnest({}::text[], {}::text[])))",
            sorted(scope.namespaces),
            [namespace for namespace, _ in robots],
            [robot for _, robot in robots],
        )
    if scope.audit is not None:
        clause.add("(source <> 'audit' OR namespace = ANY({}::text[]))", sorted(scope.audit))
    return clause

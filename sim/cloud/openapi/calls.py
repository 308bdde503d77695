"""How a call of the Open API is declared, checked and answered (open-api.md §1, §2, §4).

One row per call: :meth:`Calls.add` makes the route, its checks and its part of the OpenAPI document, so that
the three cannot differ. The order of the checks is route → appid → user token → other headers → body.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import pydantic
from fastapi import APIRouter, Request, Response

from sim.cloud.accounts import App, User
from sim.cloud.api_errors import ENTERPRISE_ERRORS, ERRORS, ApiError, Code
from sim.cloud.app_side import AppSide

MAX_BODY: Final = 1024 * 1024
"""Bytes of a request body."""
MAX_DEPTH: Final = 64
"""Nested objects and arrays in a body."""
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_FORM: Final = "application/x-www-form-urlencoded"
_ERROR_SCHEMA: Final = {
    "type": "object",
    "required": ["error_message", "error_code", "detail_message"],
    "properties": {
        "error_message": {"type": "string"},
        "error_code": {"type": "integer"},
        "detail_message": {"type": ["string", "null"]},
    },
}
ModelT = TypeVar("ModelT", bound="Form")


class BodyInvalid(ApiError):
    """9015: the body is no JSON at all."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.FORM_INVALID, detail)


class Auth(enum.Enum):
    """Who may call."""

    NONE = "nobody is asked"
    APP = "a registered app"
    USER = "a user of a registered app"
    APP_TOKEN = "an app with its own token"  # noqa: S105 - a description


class Form(pydantic.BaseModel):
    """Base of bodies and queries: numbers may come as text and the reverse, unknown members are ignored.

    Null in a member that has a default is the default: clients send what they do not know so.
    """

    model_config = pydantic.ConfigDict(extra="ignore", coerce_numbers_to_str=True, frozen=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, value: Any) -> Any:
        if not isinstance(value, dict) or None not in value.values():
            return value
        fields = cls.model_fields
        return {
            name: member
            for name, member in value.items()
            if member is not None
            or name not in fields
            or fields[name].is_required()
            or fields[name].default is None
        }


class Page(Form):
    """Paging (§5): a limit out of range is corrected, what is no integer is refused."""

    limit: int = 20
    skip: int = 0

    @pydantic.field_validator("limit", "skip", mode="before")
    @classmethod
    def _is_integer(cls, value: Any) -> Any:
        """1.0 and 1_0 would pass otherwise."""
        if isinstance(value, str) and _INTEGER.fullmatch(value.strip()) is None:
            raise ValueError("an integer is needed")
        return value

    @property
    def size(self) -> int:
        """How many records."""
        return 20 if self.limit <= 0 else min(self.limit, 1000)

    @property
    def start(self) -> int:
        """After how many records."""
        return max(0, min(self.skip, 2**53))


@dataclasses.dataclass(slots=True)
class Call:
    """One request that has passed the checks."""

    side: AppSide
    request: Request
    _app: App | None = None
    _user: User | None = None
    token: str | None = None
    """The user's token."""
    _body: Form | None = None
    _query: Form | None = None
    json: Any = None
    """The body as it came."""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of the answer."""

    @property
    def app(self) -> App:
        """The calling app."""
        if self._app is None:
            raise TypeError("a call without app")
        return self._app

    @property
    def user(self) -> User:
        """The calling user."""
        if self._user is None:
            raise TypeError("a call without user")
        return self._user

    @property
    def known_user(self) -> User | None:
        """The calling user, where a token is optional and a good one was sent."""
        return self._user

    def body(self, model: type[ModelT]) -> ModelT:
        """The body."""
        if not isinstance(self._body, model):
            raise TypeError(f"a call without {model.__name__}")
        return self._body

    def query(self, model: type[ModelT]) -> ModelT:
        """The query."""
        if not isinstance(self._query, model):
            raise TypeError(f"a call without {model.__name__}")
        return self._query

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose status differs from the one declared first."""

    content: Any
    status: int


Handler = Callable[[Call], Any] | Callable[[Call], Awaitable[Any]]


class Calls:
    """A group of calls under one heading of the OpenAPI document."""

    def __init__(self, side: AppSide, heading: str) -> None:
        self.side = side
        self.router = APIRouter(tags=[heading])

    def add(
        self,
        methods: str,
        path: str,
        handler: Handler,
        *,
        auth: Auth = Auth.USER,
        body: type[Form] | None = None,
        query: type[Form] | None = None,
        status: int = 200,
        answers: Mapping[int, str] | None = None,
        errors: Iterable[int] = (),
        headers: Mapping[str, str] | None = None,
        form_error: Callable[[ApiError], ApiError] = lambda error: error,
        guard: Callable[[Request], None] = lambda _request: None,
        answer_headers: Mapping[str, str] | None = None,
        example: Any = None,
        file: str = "",
    ) -> None:
        """Declare a call.

        :param methods: One or more, with blanks between.
        :param status: Of an answer without fault.
        :param answers: Further statuses without fault, and when they come.
        :param errors: Codes that it may give besides those of its checks.
        :param headers: Headers that the handler reads, and what they hold.
        :param guard: Looks at the request before anything else does (:raises ApiError: it is refused).
        :param answer_headers: Headers of every answer.
        :param form_error: Says in the words of another API that body or query do not fit.
        :param example: A good body, for the document.
        :param file: What the body is, where it is a file that the handler reads itself.
        """
        own_form = form_error(ApiError(Code.FORM_INVALID)).code
        codes = [*_CHECK_ERRORS[auth], *errors, *((own_form,) if body or query else ())]

        async def endpoint(request: Request) -> Response:
            call = Call(self.side, request, headers=dict(answer_headers or {}))
            try:
                guard(request)
                self._authorize(call, auth)
                try:
                    await self._read(call, body, query)
                except ApiError as error:
                    raise form_error(error) from error
                result = handler(call)
                if isinstance(result, Awaitable):
                    result = await result
            except ApiError as error:
                return error_answer(request, error, call.headers)
            if isinstance(result, Response):
                return result
            if isinstance(result, Answer):
                return answer(request, result.content, result.status, call.headers)
            return answer(request, {} if result is None else result, status, call.headers)

        endpoint.__doc__ = handler.__doc__
        responses = {code: {"description": text} for code, text in (answers or {}).items()}
        responses |= _error_responses(codes)
        for method in methods.split():
            self.router.add_api_route(
                path,
                endpoint,
                methods=[method],
                status_code=status,
                summary=(handler.__doc__ or "").strip().split("\n", 1)[0].rstrip("."),
                operation_id=f"{method.lower()}_{path.strip('/').replace('/', '_')}".translate(_NO_BRACES),
                responses=responses,  # type: ignore[arg-type] # FastAPI's own type is wider than its use
                openapi_extra=_document(
                    path, auth, body=body, query=query, headers=headers or {}, example=example, file=file
                ),
            )

    def _authorize(self, call: Call, auth: Auth) -> None:
        headers, accounts = call.request.headers, self.side.accounts
        if self.side.throttled > 0 and auth is not Auth.NONE:
            self.side.throttled -= 1
            raise ApiError(Code.THROTTLED)
        if auth is not Auth.NONE:
            call._app = accounts.app(headers.get("x-gizwits-application-id"))
        call.token = headers.get("x-gizwits-user-token")
        if auth is Auth.USER:
            call._user = accounts.check_token(call.token)[0]
        elif auth is Auth.APP_TOKEN:
            accounts.check_app_token(headers.get("x-gizwits-application-token"), call.app.appid)
        elif call.token:
            try:
                call._user = accounts.check_token(call.token)[0]
            except ApiError:
                call._user = None  # where a token is optional, a bad one counts as none

    @staticmethod
    async def _read(call: Call, body: type[Form] | None, query: type[Form] | None) -> None:
        if query is not None:
            call._query = read_form(query, dict(call.request.query_params))
        if body is not None:
            given = await read_json(call.request)
            call.json = {} if given == [] else given  # PHP writes an object without members so
            call._body = read_form(body, call.json)


def read_form(model: type[ModelT], value: Any) -> ModelT:
    """A body or query as its model (:raises ApiError: 9015, it does not fit)."""
    if not isinstance(value, dict):
        raise ApiError(Code.FORM_INVALID, "a JSON object is needed")
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"][:4])[:64]
        text = first["msg"].removeprefix("Value error, ")
        raise ApiError(Code.FORM_INVALID, f"{where}: {text}" if where else text) from error


async def read_json(request: Request) -> Any:
    """The body as JSON, whatever its type says; empty counts as ``{}``.

    :raises ApiError: 9015, it is too long, too deep or no JSON.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise ApiError(Code.FORM_INVALID, f"the body has more than {MAX_BODY} bytes")
    return parse_json(bytes(data))


def parse_json(data: bytes | str) -> Any:
    """JSON of a peer (:raises ApiError: 9015, it is none, or nested too deeply)."""
    if not data.strip():
        return {}
    try:
        # json.loads would let half of a surrogate pair through that stands in the bytes.
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise BodyInvalid("the JSON is nested too deeply") from error
    except ValueError as error:
        raise BodyInvalid("the body is not JSON") from error
    if _depth(value) > MAX_DEPTH:
        raise ApiError(Code.FORM_INVALID, "the JSON is nested too deeply")
    if _is_escaped(data) and not _is_text(value):
        raise ApiError(Code.FORM_INVALID, "a text has half of a surrogate pair")
    return value


def _is_escaped(data: bytes | str) -> bool:
    """It may have surrogates: only escapes can bring them in."""
    return ("\\ud" if isinstance(data, str) else b"\\ud") in data.lower()  # type: ignore[operator]


def _is_text(value: Any) -> bool:
    """Every text in it can be stored and sent."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return depth


def answer(
    request: Request, content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON with every character beyond ASCII escaped; ``text/html`` for the old form-typed clients (§1)."""
    form = request.headers.get("content-type", "").split(";", 1)[0].strip().lower() == _FORM
    return Response(
        json.dumps(content, ensure_ascii=True, separators=(",", ":")),
        status_code=status,
        headers=dict(headers or {}),
        media_type="text/html; charset=utf-8" if form else "application/json",
    )


def error_answer(request: Request, error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal as §4 writes it."""
    content = {"error_message": error.message, "error_code": error.code, "detail_message": error.detail}
    return answer(request, content, error.status, headers)


_CHECK_ERRORS: Final[Mapping[Auth, tuple[int, ...]]] = {
    Auth.NONE: (),
    Auth.APP: (Code.THROTTLED, Code.APPID_INVALID),
    Auth.USER: (Code.THROTTLED, Code.APPID_INVALID, Code.TOKEN_INVALID, Code.TOKEN_EXPIRED),
    Auth.APP_TOKEN: (Code.THROTTLED, Code.APPID_INVALID, Code.TOKEN_INVALID, Code.TOKEN_EXPIRED),
}
_NO_BRACES: Final = str.maketrans("", "", "{}")


def _error_responses(codes: Iterable[int]) -> dict[int, dict[str, Any]]:
    by_status: dict[int, list[str]] = {}
    for code in sorted(set(codes)):
        spec = ERRORS.get(code) or ENTERPRISE_ERRORS[code]
        by_status.setdefault(spec.status, []).append(f"{int(code)} {spec.message}")
    return {
        status: {
            "description": "; ".join(texts),
            "content": {
                "application/json": {"schema": _ERROR_SCHEMA},
                "text/html": {"schema": {"type": "string"}},
            },
        }
        for status, texts in by_status.items()
    }


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}


def _document(
    path: str,
    auth: Auth,
    *,
    body: type[Form] | None,
    query: type[Form] | None,
    headers: Mapping[str, str],
    example: Any,
    file: str,
) -> dict[str, Any]:
    """What FastAPI cannot see: headers, query and body are read by us."""
    parameters = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in path.split("/")
        if part.startswith("{")
    ]
    if auth is not Auth.NONE:
        parameters.append(_header("X-Gizwits-Application-Id", "appid"))
    if auth is Auth.USER:
        parameters.append(_header("X-Gizwits-User-token", "token of the user"))
    if auth is Auth.APP_TOKEN:
        parameters.append(_header("X-Gizwits-Application-Token", "token of POST /app/request_token"))
    parameters += [_header(name, text) for name, text in headers.items()]
    if query is not None:
        schema = _schema(query)
        needed = schema.get("required", ())
        parameters += [
            {"name": name, "in": "query", "required": name in needed, "schema": _inline(member, schema)}
            for name, member in schema["properties"].items()
        ]
    document: dict[str, Any] = {"parameters": parameters} if parameters else {}
    if body is not None:
        schema = _schema(body)
        content: dict[str, Any] = {"schema": _inline(schema, schema)}
        if example is not None:
            content["example"] = example
        document["requestBody"] = {
            "required": bool(schema.get("required")),
            "content": {"application/json": content},
        }
    if file:
        binary = {"schema": {"type": "string", "format": "binary"}}
        document["requestBody"] = {
            "description": file,
            "required": True,
            "content": {"application/octet-stream": binary},
        }
    return document


@functools.cache
def _schema(model: type[Form]) -> Mapping[str, Any]:
    """A form's JSON schema; to make them all takes most of the start of a cloud."""
    return model.model_json_schema()


def _inline(part: Any, whole: Mapping[str, Any]) -> Any:
    """A schema without references: each stands in the document by itself."""
    if isinstance(part, list):
        return [_inline(member, whole) for member in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inline(whole["$defs"][part["$ref"].rsplit("/", 1)[-1]], whole)
    return {key: _inline(member, whole) for key, member in part.items() if key != "$defs"}

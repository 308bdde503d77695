"""Users, tokens and codes (open-api.md §6)."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pydantic

from sim.cloud.accounts import PROFILE, SOURCES, Token, User
from sim.cloud.api_errors import ApiError, Code
from sim.cloud.app_side import AppSide
from sim.cloud.openapi.calls import Answer, Auth, Call, Calls, Form

Text = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=256)]
_TAKEN = (Code.PHONE_TAKEN, Code.USERNAME_TAKEN, Code.EMAIL_TAKEN)
_CODES = (Code.CODE_INVALID, Code.CODE_EXPIRED)


class ThirdParty(Form):
    """Who a user is at another service."""

    src: str = ""
    uid: str = ""
    token: str = ""


class NewUser(Form):
    """Body of ``POST /app/users``; the first variant that matches counts."""

    phone_id: str | None = None
    phone: str | None = None
    email: str | None = None
    username: str | None = None
    password: str | None = None
    code: str | None = None
    authData: ThirdParty | None = None  # noqa: N815 - the member's name
    src: str | None = None
    uid: str | None = None
    token: str | None = None
    lang: str | None = None

    @property
    def converts(self) -> bool:
        """With the token of an anonymous user it gives him a name or a phone number (R16)."""
        if self.phone_id or not self.password:
            return False
        return bool((self.phone and self.code) or (self.username and not self.email))


class Login(Form):
    """Body of ``POST /app/login``."""

    username: Text
    password: Annotated[str, pydantic.StringConstraints(min_length=1)]
    lang: str | None = None


class Change(Form):
    """Body of ``PUT /app/users``."""

    username: str | None = None
    email: str | None = None
    phone: str | None = None
    password: str | None = None
    code: str | None = None
    old_pwd: str | None = None
    new_pwd: str | None = None
    name: str | None = None
    gender: Literal["M", "F", "N"] | None = None
    birthday: str | None = None
    address: str | None = None
    lang: str | None = None
    remark: str | None = None


class Reset(Form):
    """Body of ``POST /app/reset_password``."""

    email: str | None = None
    phone: str | None = None
    code: str | None = None
    new_pwd: str | None = None


class SmsCode(Form):
    """Body of ``POST /app/sms_code``: with a code it is verified, without one it is sent."""

    phone: Text
    code: str | None = None


class CaptchaAnswer(Form):
    """Body of ``POST /app/verify/codes``."""

    captcha_id: Text
    captcha_code: Text
    phone: Text


class VerifyCode(Form):
    """Body of ``PUT /app/verify/codes``."""

    phone: Text
    sms_code: Text


def user_calls(side: AppSide) -> Calls:
    """The calls of §6."""
    calls = Calls(side, "Users")
    calls.add(
        "POST",
        "/app/users",
        create,
        auth=Auth.APP,
        body=NewUser,
        status=201,
        answers={200: "An anonymous user got a name (§6.1)"},
        errors=(*_TAKEN, *_CODES),
        example={"phone_id": "oLocal1", "lang": "en"},
    )
    calls.add(
        "POST",
        "/app/login",
        login,
        auth=Auth.APP,
        body=Login,
        errors=(Code.USER_UNKNOWN, Code.PASSWORD_WRONG),
        example={"username": "bench@example.com", "password": "secret"},
    )
    calls.add(
        "PUT",
        "/app/users",
        change,
        body=Change,
        errors=(*_TAKEN, *_CODES, Code.PASSWORD_WRONG, Code.RESERVED),
        example={"name": "Bench"},
    )
    calls.add("GET", "/app/users", show)
    calls.add(
        "POST",
        "/app/request_token",
        app_token,
        auth=Auth.APP,
        status=201,
        errors=(Code.APP_AUTH_INVALID,),
        headers={"X-Gizwits-Application-Auth": "lower-case hex MD5 of appid + appsecret"},
    )
    calls.add(
        "POST PUT",
        "/app/reset_password",
        reset_password,
        auth=Auth.APP,
        body=Reset,
        errors=(Code.USER_UNKNOWN, *_CODES),
    )
    calls.add("POST", "/app/sms_code", sms_code, auth=Auth.APP_TOKEN, body=SmsCode, errors=_CODES)
    calls.add("POST", "/app/codes", sms_code, auth=Auth.APP, body=SmsCode, errors=_CODES)
    calls.add("GET", "/app/verify/codes", captcha, auth=Auth.APP_TOKEN)
    calls.add(
        "POST",
        "/app/verify/codes",
        answer_captcha,
        auth=Auth.APP_TOKEN,
        body=CaptchaAnswer,
        status=201,
        errors=_CODES,
    )
    calls.add("PUT", "/app/verify/codes", verify_code, auth=Auth.APP_TOKEN, body=VerifyCode, errors=_CODES)
    return calls


def _granted(call: Call, user: User) -> dict[str, Any]:
    token: Token = call.side.accounts.issue_token(user.uid, call.app.appid)
    return {"uid": user.uid, "token": token.token, "expire_at": token.expire_at}


def create(call: Call) -> Any:
    """Make a user, or give an anonymous one another token.

    The answer is 201 also for a user who was there already (§6.1).
    """
    form = call.body(NewUser)
    user = call.known_user
    if user is not None and user.is_anonymous and form.converts:
        wanted = form.model_dump(include={"username", "phone", "password", "code", "lang"})
        return Answer(change_user(call, Change(**wanted)), 200)
    return _granted(call, _created(form, call.app.appid, call.side))


def _created(form: NewUser, appid: str, side: AppSide) -> User:
    accounts = side.accounts
    if form.phone_id:
        return accounts.anonymous(appid, _word(form.phone_id, "phone_id"), lang=form.lang)
    _check_strength(side, form.password)
    if form.phone and form.password and form.code:
        side.outbox.use_code(form.phone, form.code)
        return accounts.create("phone", _word(form.phone, "phone"), form.password, lang=form.lang)
    if form.email and form.password:
        return accounts.create("email", _word(form.email, "email"), form.password, lang=form.lang)
    if form.username and form.password:
        return accounts.create("username", _word(form.username, "username"), form.password, lang=form.lang)
    third = form.authData or ThirdParty(src=form.src or "", uid=form.uid or "", token=form.token or "")
    if third.src in SOURCES and third.uid and third.token:
        return accounts.third_party(third.src, _word(third.uid, "uid"), lang=form.lang)
    raise ApiError(
        Code.FORM_INVALID,
        "phone_id, phone with password and code, email or username with password, or authData is needed",
    )


def _check_strength(side: AppSide, password: str | None) -> None:
    """R4: 8 characters or more, of three kinds among small and capital letters, digits, and others."""
    if not side.config.strong_passwords or not password:
        return
    tests: tuple[Callable[[str], bool], ...] = (str.islower, str.isupper, str.isdigit)
    kinds = {next((number for number, test in enumerate(tests) if test(one)), -1) for one in password}
    if len(password) < 8 or len(kinds) < 3:
        raise ApiError(Code.FORM_INVALID, "password: 8 characters or more, of three kinds (a, A, 1, other)")


def _word(text: str, name: str) -> str:
    if len(text) > 256 or not text.isprintable():
        raise ApiError(Code.FORM_INVALID, f"{name}: at most 256 printable characters")
    return text


def login(call: Call) -> Any:
    """Log in with a user name, an e-mail address or a phone number."""
    form = call.body(Login)
    return _granted(call, call.side.accounts.check_password(form.username, form.password))


def change(call: Call) -> Any:
    """Give an anonymous user a name, change password, phone, e-mail address or profile."""
    return change_user(call, call.body(Change))


def change_user(call: Call, form: Change) -> dict[str, str]:
    """Do what the body asks for (§6.3).

    :raises ApiError: 9015 it asks for nothing, 9999 nothing would change, 9020 the old password is wrong.
    """
    accounts, user = call.side.accounts, call.user
    changes = _changes(call, form)
    if not changes:
        raise ApiError(Code.FORM_INVALID, "nothing to change is named")
    if all(_is_so(call, key, value) for key, value in changes.items()):
        raise ApiError(Code.RESERVED, "every value is as it was")
    accounts.update(user.uid, **changes)
    if form.new_pwd:
        accounts.revoke(user.uid, keep=call.token)
    when = dt.datetime.fromtimestamp(call.side.now(), dt.UTC)
    return {"updatedAt": when.strftime("%Y-%m-%dT%H:%M:%S.%f")}


def _is_so(call: Call, name: str, value: str | None) -> bool:
    """The user's member has this value."""
    if name == "password":
        return call.side.accounts.has_password(call.user, value or "")
    return bool(getattr(call.user, name) == value)


def _changes(call: Call, form: Change) -> dict[str, str | None]:
    user, changes = call.user, dict[str, str | None]()
    if form.new_pwd or form.old_pwd:
        if not form.new_pwd or not form.old_pwd:
            raise ApiError(Code.FORM_INVALID, "old_pwd and new_pwd are needed")
        _check_strength(call.side, form.new_pwd)
        call.side.accounts.check_own_password(user, form.old_pwd)
        changes["password"] = form.new_pwd
    for name in ("username", "email", "phone"):
        value = getattr(form, name)
        if value:
            changes[name] = _word(value, name)
    if form.username and not user.is_anonymous and form.username != user.username:
        raise ApiError(Code.FORM_INVALID, "username: only an anonymous user gets one")
    if user.is_anonymous and any(changes.get(name) for name in ("username", "email", "phone")):
        if not form.password:
            raise ApiError(Code.FORM_INVALID, "password: an anonymous user gets one with the name")
        _check_strength(call.side, form.password)
        changes["password"] = form.password
    if form.phone:
        call.side.outbox.use_code(form.phone, form.code or "")
    changes |= {name: getattr(form, name) for name in PROFILE if name in form.model_fields_set}
    return {name: value for name, value in changes.items() if value is not None}


def show(call: Call) -> Any:
    """What is known of the user."""
    user = call.user
    return {
        "username": user.username,
        "uid": user.uid,
        "phone": user.phone,
        "email": user.email,
        "name": user.name,
        "gender": user.gender,
        "birthday": user.birthday,
        "address": user.address,
        "lang": user.lang,
        "remark": user.remark,
        "is_anonymous": user.is_anonymous,
    }


def app_token(call: Call) -> Any:
    """A token of the app itself, for SMS and captcha calls."""
    app = call.app
    wanted = hashlib.md5(f"{app.appid}{app.appsecret}".encode()).hexdigest()  # noqa: S324 - of the protocol
    given = call.request.headers.get("x-gizwits-application-auth", "")
    if not hmac.compare_digest(given.lower().encode(), wanted.encode()):
        raise ApiError(Code.APP_AUTH_INVALID)
    token = call.side.accounts.issue_app_token(app.appid)
    return {"token": token.token, "expired_at": token.expire_at}


def reset_password(call: Call) -> Any:
    """Send a reset link by e-mail, or set a new password with an SMS code."""
    form, accounts = call.body(Reset), call.side.accounts
    if form.email:
        user = accounts.by("email", form.email)
        if user is None:
            raise ApiError(Code.USER_UNKNOWN)
        link = f"{call.request.url.scheme}://{call.request.url.netloc}/reset/{secrets.token_hex(16)}"
        call.side.outbox.put("email", form.email, link)
        return {}
    if not (form.phone and form.code and form.new_pwd):
        raise ApiError(Code.FORM_INVALID, "email, or phone with code and new_pwd is needed")
    _check_strength(call.side, form.new_pwd)
    user = accounts.by("phone", form.phone)
    if user is None:
        raise ApiError(Code.USER_UNKNOWN)
    call.side.outbox.use_code(form.phone, form.code)
    accounts.update(user.uid, password=form.new_pwd)
    accounts.revoke(user.uid)
    return {}


def sms_code(call: Call) -> Any:
    """Put a code for this phone into the outbox, or verify the one that is given."""
    form = call.body(SmsCode)
    if form.code:
        call.side.outbox.use_code(form.phone, form.code)
    else:
        call.side.outbox.send_code(form.phone)
    return {}


def captcha(call: Call) -> Any:
    """A new captcha; its answer is always 1234."""
    number = call.side.outbox.captcha()
    url = call.request.url
    return {"captcha_url": f"{url.scheme}://{url.netloc}/captcha/image/{number}/", "captcha_id": number}


def answer_captcha(call: Call) -> Any:
    """Answer a captcha, which sends an SMS code."""
    form = call.body(CaptchaAnswer)
    call.side.outbox.use_captcha(form.captcha_id, form.captcha_code)
    call.side.outbox.send_code(form.phone)
    return {}


def verify_code(call: Call) -> Any:
    """Verify an SMS code."""
    form = call.body(VerifyCode)
    call.side.outbox.use_code(form.phone, form.sms_code)
    return {}

"""The portal's configuration: one JSON file, checked strictly."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec
from cryptography import x509

from portal.ca import attestation
from portal.ca.attestation import Roots
from portal.config_cards import CardDescriptionFiles, CardName, below, described
from portal.config_values import ConfigError as ConfigError
from portal.config_values import Text, secret_in
from portal.mail.addresses import usable
from portal.mail.smtp import MailServer
from portal.model import certificate_model, relations
from portal.model.certificate_model import CertificateModel, GraphSettings, State, TemplateSettings
from portal.model.object_model import ObjectModel
from portal.model.relations import RelationType, RelationTypes
from portal.model.states import CertificateState
from portal.processes.card_descriptions import CardDescription
from portal.processes.context import FactorySecrets
from protocol.link import is_portal_id

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_KEY_BYTES: Final = (16, 24, 32)
_PUK_BYTES: Final = 8


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the portal listens; 127.0.0.1 behind a reverse proxy."""

    host: Text = "127.0.0.1"
    port: Port = 8443


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM files of the server's certificate chain and key."""

    certificate: Text
    key: Text


class Pkcs11(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token that holds the portal's keys.

    Attributes:
        module: path of its maker's PKCS#11 module.
        token: the token's label.
        pin_file: holds the user's PIN; without it the systemd credential ``inlay-token-pin``.
        seconds: how long the token may take for one call.
    """

    module: Text
    token: Text
    pin_file: Text | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0


class FactoryCards(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What physical cards come with from their maker, in files that nobody else may read.

    Attributes:
        management_key_file: holds the management key in hexadecimal digits: 16, 24 or 32 bytes.
        puk_file: holds the PUK, 8 characters.
    """

    management_key_file: Text | None = None
    puk_file: Text | None = None


class Mail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The mail server that the portal's mails are handed over to; its certificate is always checked.

    Attributes:
        security: ``starttls``, or ``tls`` from the first byte (port 465).
        sender: address that mails come from.
        user: to log in with; needs ``password_file``.
        password_file: nobody but its owner may read it.
        ca_file: PEM file of the server's CA, where the system doesn't know it.
        seconds: how long connecting, and handing over one mail, may take.
    """

    host: Text
    sender: Text
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls"] = "starttls"
    user: Text | None = None
    password_file: Text | None = None
    ca_file: Text | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=50)] = 30.0


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration file.

    Attributes:
        origin: what browsers and agents call the portal: ``https://host[:port]``.
        name: the portal's name for people.
        database: SQLAlchemy URL.
        key_file: the sealed keys; not read while ``pkcs11`` is set, but by ``keys move``.
        pkcs11: a token that holds the keys instead.
        passphrase_file: opens them; without it the systemd credential ``inlay-passphrase``.
        listen: address and port.
        proxies: addresses of the reverse proxies before this portal: what they say of a client's address is believed.
        tls: certificate and key; None behind a reverse proxy that ends TLS.
        ca_name: common name of the built-in CA.
        issued_state: the certificates' internal state; in the file ``certificate_model.SETTING``.
        certificate_state_graphs: name to certificate state graph.
        audit_heads: file that signed heads of the audit log are added to; "audit-heads" beside the keys by default.
        certificate_templates: name to certificate template.
        relation_types: types of relations between objects.
        factory_cards: what physical cards come with, where that isn't what most makers use.
        attestation_roots: PEM file, or folder of such files (``*.pem``): certificates of the makers of cards whose word
            on where a key was made is believed; what is self-signed is a root, what isn't has to lead to one.
        mail: the mail server; None: this portal sends no mail.
        card_descriptions: kinds of cards with encoding descriptions of their own, by the name that staff pick them by.
    """

    origin: Text
    name: Text
    database: Text
    key_file: Text
    passphrase_file: Text | None = None
    listen: Listen = Listen()
    proxies: list[Text] = []
    tls: Tls | None = None
    ca_name: Text = "Inlay CA"
    audit_heads: Text | None = None
    issued_state: State = msgspec.field(name=certificate_model.SETTING, default=CertificateState.ISSUED.value)
    certificate_state_graphs: dict[State, GraphSettings] = msgspec.field(
        default_factory=lambda: dict(certificate_model.BUILT_IN_GRAPHS)
    )
    certificate_templates: dict[State, TemplateSettings] = msgspec.field(
        default_factory=lambda: dict(certificate_model.BUILT_IN_TEMPLATES)
    )
    relation_types: list[RelationType] = msgspec.field(default_factory=lambda: list(relations.BUILT_IN))
    pkcs11: Pkcs11 | None = None
    factory_cards: FactoryCards = FactoryCards()
    attestation_roots: Text | None = None
    mail: Mail | None = None
    card_descriptions: dict[CardName, CardDescriptionFiles] = {}

    @property
    def portal_id(self) -> str:
        """The portal's id: host[:port] of the origin."""
        return urlsplit(self.origin).netloc

    @property
    def audit_heads_file(self) -> Path:
        """Where signed heads of the audit log are added."""
        return Path(self.audit_heads or Path(self.key_file).parent / "audit-heads")

    def factory_secrets(self) -> FactorySecrets:
        """What physical cards come with.

        Raises:
            ConfigError: a file can't be read, may be read by others, or doesn't hold what it should.
        """
        secrets, files = FactorySecrets(), self.factory_cards
        if files.management_key_file is not None:
            secrets = replace(secrets, management_key=_factory_key(Path(files.management_key_file)))
        if files.puk_file is not None:
            secrets = replace(secrets, puk=_factory_puk(Path(files.puk_file)))
        return secrets

    def trusted_makers(self) -> Roots:
        """Whose cards are believed when they say where a key was made.

        Raises:
            ConfigError: a file can't be read, or doesn't hold what it should.
        """
        return Roots() if self.attestation_roots is None else _makers(Path(self.attestation_roots))

    def mail_server(self) -> MailServer | None:
        """Where mails go; None: nowhere.

        Raises:
            ConfigError: the sender is no address, user or password is missing, or a file can't be used.
        """
        return None if self.mail is None else _mail_server(self.mail, self.name)

    def described_cards(self) -> dict[str, CardDescription]:
        """Kinds of cards that are made through PKCS#11.

        Raises:
            ConfigError: a file can't be read, or a description has a fault; names file, line and cause.
        """
        return {name: described(name, files) for name, files in self.card_descriptions.items()}

    def model(self) -> ObjectModel:
        """What is configured of objects' lives.

        Raises:
            ModelFaults: graphs, templates or relation types break a rule.
        """
        return ObjectModel(
            CertificateModel(self.issued_state, self.certificate_state_graphs, self.certificate_templates),
            RelationTypes(self.relation_types),
        )


def load(path: Path) -> Config:
    """Read the configuration. Relative paths in it are relative to its folder.

    Raises:
        ConfigError: it is missing, isn't JSON, or breaks a rule; names the place.
    """
    try:
        config = msgspec.json.decode(path.read_bytes(), type=Config)
    except OSError as error:
        raise ConfigError(str(path), error.strerror or "can't be read") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), str(error)) from None
    for proxy in config.proxies:
        _check_address(path, proxy)
    parts = urlsplit(config.origin)
    rebuilt = f"https://{parts.netloc}"
    if config.origin != rebuilt or not is_portal_id(parts.netloc):
        raise ConfigError(f"{path}: origin", "https://host or https://host:port in lower case is needed")
    return _absolute(config, path.parent.resolve())


def _check_address(path: Path, text: str) -> None:
    try:
        plain = str(ipaddress.ip_address(text)) == text
    except ValueError:
        plain = False
    if not plain:
        raise ConfigError(f"{path}: proxies", "IP addresses in their shortest form are needed")


def _factory_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(secret_in(path).decode("ascii"))
    except ValueError:
        key = b""
    if len(key) not in _KEY_BYTES:
        raise ConfigError(f"{path}", "16, 24 or 32 bytes in hexadecimal digits are needed")
    return key


def _factory_puk(path: Path) -> bytes:
    puk = secret_in(path)
    if len(puk) != _PUK_BYTES:
        raise ConfigError(f"{path}", f"{_PUK_BYTES} characters are needed")
    return puk


def _makers(path: Path) -> Roots:
    files = sorted(path.glob("*.pem")) if path.is_dir() else [path]
    found: list[x509.Certificate] = []
    for file in files:
        try:
            found += x509.load_pem_x509_certificates(file.read_bytes())
        except OSError as error:
            raise ConfigError(f"{file}", error.strerror or "can't be read") from None
        except ValueError:
            raise ConfigError(f"{file}", "certificates in PEM are needed") from None
    try:
        return attestation.roots(found)
    except (ValueError, x509.DuplicateExtension, x509.InvalidVersion):
        problem = "certificates of authorities are needed, one of them self-signed at least"
        raise ConfigError(f"{path}", problem) from None


def _mail_server(mail: Mail, name: str) -> MailServer:
    if not usable(mail.sender) or not name.isprintable():
        raise ConfigError(
            "mail: sender", "a plain e-mail address, and a portal's name on one line, are needed"
        )
    if (mail.user is None) != (mail.password_file is None):
        raise ConfigError("mail", "user and password_file are needed, or neither")
    password = None
    if mail.password_file is not None:
        try:
            password = secret_in(Path(mail.password_file)).decode()
        except UnicodeDecodeError:
            password = ""
        if not password:
            raise ConfigError(mail.password_file, "the password is needed, in UTF-8")
    try:
        tls = ssl.create_default_context(cafile=mail.ca_file)
    except (OSError, ssl.SSLError):
        raise ConfigError(f"{mail.ca_file}", "certificates in PEM are needed") from None
    return MailServer(
        mail.host, mail.port, mail.security, mail.sender, name, tls, mail.user, password, mail.seconds
    )


def _absolute(config: Config, folder: Path) -> Config:
    passphrase = config.passphrase_file
    tls, token, factory = config.tls, config.pkcs11, config.factory_cards
    if token is not None:
        pin_file = None if token.pin_file is None else str(folder / token.pin_file)
        token = msgspec.structs.replace(token, module=str(folder / token.module), pin_file=pin_file)
    return msgspec.structs.replace(
        config,
        key_file=str(folder / config.key_file),
        passphrase_file=None if passphrase is None else str(folder / passphrase),
        tls=None if tls is None else Tls(str(folder / tls.certificate), str(folder / tls.key)),
        audit_heads=None if config.audit_heads is None else str(folder / config.audit_heads),
        database=_absolute_database(config.database, folder),
        pkcs11=token,
        factory_cards=FactoryCards(
            _below(folder, factory.management_key_file), _below(folder, factory.puk_file)
        ),
        card_descriptions={name: below(folder, files) for name, files in config.card_descriptions.items()},
        attestation_roots=_below(folder, config.attestation_roots),
        mail=None
        if config.mail is None
        else msgspec.structs.replace(
            config.mail,
            password_file=_below(folder, config.mail.password_file),
            ca_file=_below(folder, config.mail.ca_file),
        ),
    )


def _below(folder: Path, name: str | None) -> str | None:
    return None if name is None else str(folder / name)


def _absolute_database(url: str, folder: Path) -> str:
    scheme, separator, path = url.partition(":///")
    if separator and scheme.startswith("sqlite") and path and not path.startswith("/"):
        return f"{scheme}:///{folder / path}"
    return url

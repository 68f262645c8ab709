"""A mail server that keeps what it takes: one JSON object a line."""

import argparse
import asyncio
import email
import email.policy
import json
import os
import ssl

from aiosmtpd.smtp import SMTP, AuthResult


class Keep:
    def __init__(self, path):
        self.path = path

    async def handle_RCPT(self, server, session, envelope, address, options):
        if "refused@" in address:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 taken"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        parts = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
        line = {
            "to": envelope.rcpt_tos,
            "headers": [[name, str(value)] for name, value in mail.items()],
            "text": parts.get("text/plain", ""),
            "html": parts.get("text/html", ""),
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "login": session.auth_data,
        }
        with open(self.path, "a") as out:
            out.write(json.dumps(line) + "\n")
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    if data.login == b"otp" and data.password == b"test-smtp-password":
        return AuthResult(success=True, auth_data="otp")
    return AuthResult(success=False, handled=False)


async def main():
    arguments = argparse.ArgumentParser()
    for name in ["--ready-file", "--mails", "--certificate", "--key", "--mode"]:
        arguments.add_argument(name)
    given = arguments.parse_args()
    tls = {}
    whole = None
    if given.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.certificate, given.key)
        tls = {"authenticator": authenticate, "auth_required": True}
        if given.mode == "tls":
            # The library knows only of the TLS that it began itself.
            whole, tls["auth_require_tls"] = context, False
        else:
            tls |= {"tls_context": context, "require_starttls": True}
    keep = Keep(given.mails)
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(keep, **tls), "127.0.0.1", 0, ssl=whole)
    address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    with open(given.ready_file + ".half", "w") as out:
        json.dump({"smtp": address}, out)
    os.rename(given.ready_file + ".half", given.ready_file)
    await server.serve_forever()


asyncio.run(main())

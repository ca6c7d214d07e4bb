"""The real clients' mistakes, as cells.json has them. check.py ADDRESS TOOLS GRPCURL [--update]

For each client and each mistake of cases.py: what reaches the wire (of a Check, the bytes of the
resource), and what the server answers. No mistake is ALLOWED where what was meant is not. TOOLS is
where .ci/real-clients has put what the clients need.
"""

import json
import os
import re
import subprocess
import sys

from cases import CASES, CHECK, UNSEEN

HERE = os.path.dirname(os.path.abspath(__file__))
PROTO = os.path.join(HERE, "..", "..", "proto")
CELLS = os.path.join(HERE, "cells.json")

address, tools, grpcurl = sys.argv[1:4]
update = "--update" in sys.argv


def in_here(name):
    return os.path.join(HERE, name)


def node(script, *arguments):
    return ["node", in_here(script), address, tools, *arguments]


CLIENTS = {
    "grpc-js, keepCase": node("grpc_js.mjs", PROTO, "snake"),
    "grpc-js": node("grpc_js.mjs", PROTO, "camel"),
    "grpc-js, strictly": node("grpc_js.mjs", PROTO, "strict"),
    "grpcio": [sys.executable, in_here("grpcio.py"), address, "messages"],
    "grpcio, JSON": [sys.executable, in_here("grpcio.py"), address, "json"],
    "connect-es": node("connect.mjs", os.path.join(tools, "rolegate.binpb"), "create"),
    "connect-es, JSON": node("connect.mjs", os.path.join(tools, "rolegate.binpb"), "json"),
    "grpcurl": [sys.executable, in_here("grpcurl.py"), address, grpcurl, "strict"],
    "grpcurl, unknown fields": [sys.executable, in_here("grpcurl.py"), address, grpcurl, "loose"],
    "Go": [os.path.join(tools, "go-client"), address, os.path.join(tools, "rolegate.binpb"), "strict"],
    "Go, unknown fields": [os.path.join(tools, "go-client"), address, os.path.join(tools, "rolegate.binpb"), "loose"],
}
# Where a client cannot be had, .ci/real-clients says so.
MISSING = set(filter(None, os.environ.get("MISSING_CLIENTS", "").split(";")))

with open(os.path.join(PROTO, "rolegate/v1/authz_service.proto"), encoding="utf-8") as proto:
    REASONS = dict(re.findall(r"DECISION_REASON_([A-Z_]+) = (\d+);", proto.read()))
REASONS = {number: name for name, number in REASONS.items()}


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """The fields of a message: numbers and bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        else:
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
        yield key >> 3, value


def of(data, number):
    return [value for field, value in fields(data) if field == number]


def refused(details):
    """A google.rpc.Status: the reason, and the fields that are wrong."""
    reason, wrong = "", []
    for detail in of(details, 3):
        kind, value = of(detail, 1)[0].decode(), of(detail, 2)[0]
        if kind.endswith("ErrorInfo"):
            reason = of(value, 1)[0].decode()
        elif kind.endswith("BadRequest"):
            wrong = [of(violation, 1)[0].decode() for violation in of(value, 1)]
    return " ".join([reason, *wrong])


def told(cell):
    if "thrown" in cell:
        return "the client refuses"
    if "refused" in cell:
        return cell["refused"]
    if "details" in cell:
        return refused(bytes.fromhex(cell["details"]))
    if not cell["decision"]:
        return "DONE"
    verdict, reason = (str(cell["decision"][name]) for name in ("verdict", "reason"))
    verdict = {"1": "ALLOWED", "2": "DENIED"}.get(verdict, verdict.removeprefix("VERDICT_"))
    return f"{verdict} {REASONS.get(reason, reason.removeprefix('DECISION_REASON_'))}"


def shown(method, cell):
    answer, wire = told(cell), cell["wire"]
    if wire in (None, "?") or "thrown" in cell:
        return answer
    if method == CHECK:
        resources = of(bytes.fromhex(wire), 4)
        wire = resources[0].hex() if resources else "no resource"
        return f"{wire or 'empty'}: {answer}"
    return answer


def run(command, requests):
    ran = subprocess.run(
        command, input=json.dumps(requests), capture_output=True, text=True, timeout=120
    )
    if ran.returncode != 0:
        sys.exit(f"{' '.join(command)}: {ran.stderr}")
    return {cell["name"]: cell for cell in map(json.loads, ran.stdout.splitlines())}


def main():
    ask = [dict(name=name, method=method, request=written) for name, method, written, _ in CASES]
    meant = [dict(name=name, method=method, request=right) for name, method, _, right in CASES]
    meant = run(CLIENTS["grpcio"], meant)
    got, opened = {name: {} for name, *_ in CASES}, []
    for client, command in CLIENTS.items():
        if client in MISSING:
            continue
        cells = run(command, ask)
        for name, method, written, _ in CASES:
            if name not in cells:
                # Only JavaScript has undefined.
                if "$undefined" not in json.dumps(written):
                    sys.exit(f"{client} says nothing of {name!r}")
                continue
            answer = told(cells[name])
            got[name][client] = shown(method, cells[name])
            let_through = answer.startswith("ALLOWED") or answer == "DONE"
            right = told(meant[name])
            if let_through and not (right.startswith("ALLOWED") or right == "DONE"):
                unseen = name in UNSEEN and client in ("grpc-js", "grpc-js, keepCase", "connect-es")
                if not unseen:
                    opened.append(f"{client}: {name}: {got[name][client]}; meant: {right}")
    if opened:
        sys.exit("A mistake is let through where what was meant is not:\n" + "\n".join(opened))
    if update:
        with open(CELLS, "w", encoding="utf-8") as file:
            json.dump(got, file, indent=1)
            file.write("\n")
    with open(CELLS, encoding="utf-8") as file:
        wanted = json.load(file)
    different = [
        f"{client}: {name}: {got[name].get(client)}, not {cell}"
        for name in {**wanted, **got}
        for client, cell in {**got.get(name, {}), **wanted.get(name, {})}.items()
        if client not in MISSING and got.get(name, {}).get(client) != wanted.get(name, {}).get(client)
    ]
    if different:
        sys.exit("These are not as cells.json has them (check.py --update writes it):\n" + "\n".join(different))
    count = sum(len(cells) for cells in got.values())
    print(f"   {len(got)} mistakes, {len(CLIENTS) - len(MISSING)} clients: {count} cells as written down")


main()

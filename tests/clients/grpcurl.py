"""JSON by grpcurl. grpcurl.py ADDRESS GRPCURL HOW

HOW: `strict` as it is, `loose` with -allow-unknown-fields.
"""

import json
import subprocess
import sys

address, grpcurl, how = sys.argv[1:]


def camel(name):
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


def cased(value):
    if isinstance(value, list):
        return [cased(one) for one in value]
    if not isinstance(value, dict):
        return value
    name = lambda key: camel(key[1:]) if key.startswith("!") else key
    return {name(key): cased(one) for key, one in value.items()}


loose = ["-allow-unknown-fields"] if how == "loose" else []
for one in json.load(sys.stdin):
    if "$undefined" in json.dumps(one["request"]):
        continue
    ran = subprocess.run(
        [
            *[grpcurl, "-plaintext", "-format-error", "-max-time", "10", *loose],
            *["-d", json.dumps(cased(one["request"]))],
            *[address, f"rolegate.v1.{one['method']}"],
        ],
        capture_output=True,
        text=True,
        timeout=20,
    )
    cell = {"name": one["name"], "wire": "?"}
    if ran.returncode == 0:
        cell["decision"] = json.loads(ran.stdout).get("decision", {})
    else:
        try:
            details = json.loads(ran.stderr)["details"]
            info = [detail for detail in details if "reason" in detail]
            fields = [
                violation["field"]
                for detail in details
                for violation in detail.get("fieldViolations", [])
            ]
            cell["refused"] = " ".join([info[0]["reason"], *fields])
        except (ValueError, KeyError, IndexError):
            cell.update(wire=None, thrown=ran.stderr.strip())
    print(json.dumps(cell))

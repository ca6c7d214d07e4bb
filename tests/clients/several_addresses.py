"""grpcio over a list of addresses: see docs/guides/clients.md. several_addresses.py ADDRESS

grpcio makes the list the authority of its calls, with a comma that is written as %2C. No authority
may have that, so HTTP/2 resets the stream before there is a request. `grpc.default_authority` is the
cure. When the first call gets through one day, the page needs the cure no more.
"""

import sys

import grpc

[address] = sys.argv[1:]
target = f"ipv4:{address},{address}"
named = ("grpc.default_authority", "rolegate.example")
round_robin = ("grpc.lb_policy_name", "round_robin")


def ask(*options):
    with grpc.insecure_channel(target, options=options) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            return "SERVING" if check(b"", timeout=10) == b"\x08\x01" else "?"
        except grpc.RpcError as error:
            return error.code().name


for options, wanted in [((), "INTERNAL"), ((named,), "SERVING"), ((named, round_robin), "SERVING")]:
    got = ask(*options)
    if got != wanted:
        sys.exit(f"{target} with {options}: {got}, not {wanted}")
print("   a list of addresses: with grpc.default_authority")

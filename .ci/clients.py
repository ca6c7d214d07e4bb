"""A client without generated code: everything it knows it asks the server's reflection for.

clients.py ADDRESS GRPCURL ROLEGATE

It calls every method of the rolegate.v1 services in one story, and fails when one is left out, so
a method cannot be added without being called from here. It also holds the documents to their word:
the README's first check, and the error reasons, the flags and the catalog in docs/.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import uuid

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

PACKAGE = "rolegate.v1."
SECONDS = 10


def same(what, got, wanted):
    if got != wanted:
        if isinstance(got, dict) and isinstance(wanted, dict):
            # Long tables: only where they differ.
            keys = sorted(key for key in {*got, *wanted} if got.get(key) != wanted.get(key))
            got, wanted = ({key: one.get(key) for key in keys} for one in (got, wanted))
        sys.exit(f"{what}: got {got!r}, not {wanted!r}")


class Server:
    """Calls methods by name, with requests and answers as dictionaries."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self.channel).result(timeout=SECONDS)
        self.reflection = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.reflection)
        self.methods = {}
        self.services = sorted(self.reflection.get_services())
        for service in self.services:
            if not service.startswith("grpc.reflection."):
                for method in self.pool.FindServiceByName(service).methods:
                    short = f"{service.removeprefix(PACKAGE)}/{method.name}"
                    self.methods[short] = (f"/{service}/{method.name}", method)
        self.called = set()

    def message(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def watch(self, name, /, **fields):
        """The messages of a method whose server streams, one by one, and the call to end it with."""
        path, method = self.methods[name]
        same(f"{name} streams", (method.client_streaming, method.server_streaming), (False, True))
        request = message_factory.GetMessageClass(method.input_type)
        answer = message_factory.GetMessageClass(method.output_type)
        stub = self.channel.unary_stream(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        message = json_format.ParseDict(fields, request(), descriptor_pool=self.pool)
        self.called.add(name)
        stream = stub(message, timeout=SECONDS)
        shown = (
            json_format.MessageToDict(
                one,
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
                descriptor_pool=self.pool,
            )
            for one in stream
        )
        return shown, stream

    def stream(self, name, /, *messages):
        """All answers to these messages, of a method that streams both ways."""
        path, method = self.methods[name]
        same(f"{name} streams", (method.client_streaming, method.server_streaming), (True, True))
        request = message_factory.GetMessageClass(method.input_type)
        answer = message_factory.GetMessageClass(method.output_type)
        stub = self.channel.stream_stream(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        sent = [
            json_format.ParseDict(fields, request(), descriptor_pool=self.pool)
            for fields in messages
        ]
        self.called.add(name)
        return [
            json_format.MessageToDict(
                one, preserving_proto_field_name=True, descriptor_pool=self.pool
            )
            for one in stub(iter(sent), timeout=SECONDS)
        ]

    def call(self, name, /, **fields):
        path, method = self.methods[name]
        same(f"{name} streams", (method.client_streaming, method.server_streaming), (False, False))
        request = message_factory.GetMessageClass(method.input_type)
        answer = message_factory.GetMessageClass(method.output_type)
        stub = self.channel.unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        message = json_format.ParseDict(fields, request(), descriptor_pool=self.pool)
        self.called.add(name)
        return json_format.MessageToDict(
            stub(message, timeout=SECONDS),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            descriptor_pool=self.pool,
        )

    def refused(self, reason, code, name, /, **fields):
        """The metadata of the one ErrorInfo, and the types of all details."""
        try:
            answer = self.call(name, **fields)
        except grpc.RpcError as error:
            same(f"{name}: the code", error.code().name, code)
            trailers = dict(error.trailing_metadata())
            status = self.message("google.rpc.Status").FromString(trailers["grpc-status-details-bin"])
            same(f"{name}: the message", status.message, error.details())
            kinds = [detail.type_url.rpartition("/")[2] for detail in status.details]
            same(f"{name}: ErrorInfos", kinds.count("google.rpc.ErrorInfo"), 1)
            info = self.message("google.rpc.ErrorInfo")()
            info.ParseFromString(status.details[kinds.index("google.rpc.ErrorInfo")].value)
            same(f"{name}: the reason", (info.domain, info.reason), ("rolegate", reason))
            return dict(info.metadata), kinds
        sys.exit(f"{name} should be refused ({reason}), but answers {answer}")


def health(server):
    for service in ["", *(name for name in server.services if name.startswith(PACKAGE))]:
        answer = server.call("grpc.health.v1.Health/Check", service=service)
        same(f"health of {service!r}", answer["status"], "SERVING")


def story(server):
    """A shop on a catalog of its own, from its making to its end."""
    tenant = f"clients-{uuid.uuid4()}"

    def call(method, /, **fields):
        return server.call(method, tenant_id=tenant, **fields)

    def refused(reason, code, method, /, **fields):
        return server.refused(reason, code, method, tenant_id=tenant, **fields)

    def check(member, permission, **fields):
        return call("AuthzService/Check", member_id=member, permission=permission, **fields)

    def verdict(answer):
        return answer["decision"]["verdict"].removeprefix("VERDICT_")

    def reason(answer):
        return answer["decision"]["reason"].removeprefix("DECISION_REASON_")

    # The tenant, on the older version of its catalog.
    opening = dict(catalog_id="shop", catalog_version=1, owner_member_id="olga", request_id="open")
    made = call("TenantService/CreateTenant", **opening)
    same("the owner", made["owner"]["role_ids"], ["owner"])
    again = call("TenantService/CreateTenant", **opening)
    same("a retry's answer", again, made)
    opening["owner_member_id"] = "otto"
    refused("REQUEST_ID_REUSED", "FAILED_PRECONDITION", "TenantService/CreateTenant", **opening)
    same("its state", call("TenantService/GetTenant")["tenant"]["state"], "TENANT_STATE_ACTIVE")
    listed, token = [], ""
    for _ in range(100):
        page = server.call("TenantService/ListTenants", page_size=2, page_token=token)
        listed += [one["id"] for one in page["tenants"]]
        token = page["next_page_token"]
        if not token:
            break
    same("it is listed", listed.count(tenant), 1)
    _, kinds = refused("UNKNOWN_PLAN", "INVALID_ARGUMENT", "TenantService/ChangePlan", plan="gold")
    same("BadRequest is there", "google.rpc.BadRequest" in kinds, True)
    enterprise = server.call("TenantService/ChangePlan", tenant_id="demo-oqupie", plan="enterprise")
    same("Enterprise's limit", enterprise["custom_role_limit"], 5)

    # Its people.
    call("MemberService/CreateMember", member_id="ann", role_ids=["admin"])
    call("MemberService/CreateMember", member_id="lou", role_ids=["limited_user"], team_ids=["a"])
    synced = call(
        "MemberService/BatchUpsertMembers",
        members=[
            {"member_id": "lou", "team_ids": {"ids": ["a", "b"]}, "keep_status": True},
            {
                "member_id": "max",
                "role_ids": {"ids": ["user"]},
                "team_ids": {"ids": ["a"]},
                "status": "MEMBER_STATUS_ACTIVE",
            },
            {"member_id": "eve", "role_ids": {"ids": ["no-such-role"]}, "keep_status": True},
        ],
        mode="BATCH_MODE_ITEM_BY_ITEM",
    )
    outcomes = [one["outcome"].removeprefix("UPSERT_OUTCOME_") for one in synced["results"]]
    same("the sync", outcomes, ["UPDATED", "CREATED", "REFUSED"])
    same("its error", synced["results"][2]["error"]["reason"], "UNKNOWN_ROLE")
    lou = call("MemberService/GetMember", member_id="lou")["member"]
    same("lou's teams", lou["team_ids"], ["a", "b"])
    moved = dict(member_id="lou", team_ids=["b"], update_mask="teamIds", etag=lou["etag"])
    call("MemberService/UpdateMember", **moved)
    refused("ETAG_MISMATCH", "ABORTED", "MemberService/UpdateMember", **moved)
    members = call("MemberService/ListMembers", team_id="b")["members"]
    same("who is in team b", [one["id"] for one in members], ["lou"])

    # A role of its own.
    tree = call("RoleService/ListPermissions")
    same("the first section", tree["sections"][0]["id"], "chat")
    draft = dict(name="Helper", grants=[{"permission": "conversation.reply", "scope": "assigned"}])
    metadata, _ = refused(
        "REQUIREMENT_MISSING", "INVALID_ARGUMENT", "RoleService/CreateRole", **draft
    )
    same("what is missing", "conversation.view" in metadata["missing"], True)
    helper = call("RoleService/CreateRole", **draft, expand_requirements=True)
    same("what was added", len(helper["added_grants"]), 2)
    helper = helper["role"]
    same("GetRole", call("RoleService/GetRole", role_id=helper["id"])["role"]["name"], "Helper")
    deputy = call("RoleService/CloneRole", source_role_id="owner", name="Deputy")
    left_out = [grant["permission"] for grant in deputy["left_out_grants"]]
    same("what a copy of the owner leaves out", left_out, ["account.manage"])
    roles = call("RoleService/ListRoles", view="ROLE_VIEW_FULL")
    same("the roles", (len(roles["roles"]), roles["custom_role_count"]), (6, 2))
    wider = [*helper["grants"], {"permission": "contact.view"}]
    preview = call(
        "RoleService/PreviewRoleChange", update={"role_id": helper["id"], "grants": wider}
    )
    same("the preview", [one["permission"] for one in preview["permissions"]], ["contact.view"])
    update = dict(role_id=helper["id"], grants=wider, update_mask="grants", etag=preview["etag"])
    updated = call("RoleService/UpdateRole", **update)["role"]
    same("its grants", len(updated["grants"]), 4)
    refused(
        "DEFAULT_ROLE_IMMUTABLE",
        "FAILED_PRECONDITION",
        "RoleService/UpdateRole",
        role_id="owner",
        name="Boss",
        update_mask="name",
    )
    assigned = call("MemberService/AssignRoles", member_id="lou", role_ids=[helper["id"]])

    # Whoever watches is told of it, also from a cursor on.
    def changes(messages, wanted):
        found, cursor = [], ""
        while len(found) < wanted:
            message = next(messages)
            found, cursor = found + message["changes"], message["cursor"]
        return found, cursor

    messages, stream = server.watch("AuthzService/Watch", tenant_ids=[tenant])
    begin = next(messages)
    same("the first message", (begin["changes"], bool(begin["cursor"])), ([], True))
    call("MemberService/UpdateMember", member_id="lou", team_ids=["a"], update_mask="teamIds")
    call("RoleService/UpdateRole", role_id=helper["id"], name="Aide", update_mask="name")
    told, cursor = changes(messages, 2)
    same("a member's change", told[0]["members"], {"member_ids": ["lou"]})
    same("a role's change", told[1]["roles"], {"role_ids": [helper["id"]]})
    same("the tenants", {one["tenant_id"] for one in told}, {tenant})
    stream.cancel()
    messages, stream = server.watch("AuthzService/Watch", cursor=begin["cursor"])
    same("again, from the first cursor", changes(messages, 2), (told, cursor))
    stream.cancel()
    call("RoleService/UpdateRole", role_id=helper["id"], name="Helper", update_mask="name")

    # Decisions.
    mine = {"id": "1", "assignees": {"ids": ["lou"]}, "teams": {"none": True}}
    theirs = {"id": "2", "assignees": {"ids": ["max"]}, "teams": {"ids": ["b"]}}
    unsaid = {"id": "3"}
    fresh = {"at_least_as_fresh": {"tokens": [assigned["consistency_token"]]}}
    answer = check("lou", "contact.view", consistency=fresh)
    same("contacts", (verdict(answer), reason(answer)), ("ALLOWED", "GRANTED_BY_ROLE"))
    same("by", answer["decision"]["decided_by"][0]["role_id"], helper["id"])
    same("theirs", reason(check("lou", "conversation.view", resource=theirs)), "OUT_OF_SCOPE")
    same("none", reason(check("lou", "conversation.view")), "RESOURCE_REQUIRED")
    item = dict(member_id="lou", permission="contact.view")
    asked = dict(tenant_id=tenant, items=[{**item, "correlation_id": 1}])
    wrong = dict(tenant_id="", items=[{**item, "correlation_id": 2**64 - 1}])
    answers = server.stream("AuthzService/CheckStream", asked, wrong, asked)
    results = [one for answer in answers for one in answer.get("results", [])]
    same("asked on a stream", [one["correlation_id"] for one in results], ["1", "1"])
    same("allowed", {one["decision"]["verdict"] for one in results}, {"VERDICT_ALLOWED"})
    [refusal] = [answer["refusal"] for answer in answers if "refusal" in answer]
    same("refused", refusal["correlation_ids"], [str(2**64 - 1)])
    same("because", refusal["error"]["reason"], "FIELD_REQUIRED")
    answer = check("lou", "conversation.view", resource=unsaid)["decision"]
    same("unsaid", answer["missing_attributes"], ["assignees"])
    refused(
        "UNKNOWN_PERMISSION",
        "INVALID_ARGUMENT",
        "AuthzService/Check",
        member_id="lou",
        permission="conversation.veiw",
    )
    item = dict(member_id="lou", permission="conversation.view")
    batch = call(
        "AuthzService/BatchCheck",
        items=[{**item, "resource": mine}, {**item, "permission": "x"}, {**item, "resource": theirs}],
    )["items"]
    same("a batch", [verdict(batch[0]), verdict(batch[2])], ["ALLOWED", "DENIED"])
    same("its bad item", batch[1]["error"]["reason"], "UNKNOWN_PERMISSION")
    listed = call("AuthzService/FilterResources", **item, resources=[theirs, mine, unsaid])
    same("a list", (listed["allowed_ids"], listed["incomplete_ids"]), (["1"], ["3"]))
    plan = call("AuthzService/PlanFilter", **item)
    terms = [(term["relation"], term["team_ids"]) for term in plan["terms"]]
    same("a plan", (plan["kind"], terms), ("PLAN_KIND_ANY_OF", [("RELATION_ASSIGNEE", [])]))
    effective = call("AuthzService/ListEffectivePermissions", member_id="lou")
    same("menus", effective["visible_section_ids"], ["chat", "conversations", "contacts"])
    allowed = call("AuthzService/ListAuthorizedMembers", permission="conversation.view", resource=theirs)
    same("who may", [one["member_id"] for one in allowed["members"]], ["ann", "max", "olga"])
    explained = call("AuthzService/Explain", **item, resource=theirs)
    same("an explanation", (reason(explained), len(explained["steps"]) > 2), ("OUT_OF_SCOPE", True))

    # People go, and come back.
    call("MemberService/ArchiveMember", member_id="max")
    now = {"fully_consistent": True}
    same("archived", reason(check("max", "chat.view", consistency=now)), "MEMBER_ARCHIVED")
    back = call("MemberService/RestoreMember", member_id="max")["member"]
    same("restored", (back["status"], back["role_ids"]), ("MEMBER_STATUS_ACTIVE", ["user"]))
    call("MemberService/DeleteMember", member_id="max")
    refused("MEMBER_NOT_FOUND", "NOT_FOUND", "MemberService/GetMember", member_id="max")
    metadata, kinds = refused(
        "LAST_OWNER", "FAILED_PRECONDITION", "MemberService/ArchiveMember", member_id="olga"
    )
    same("LAST_OWNER says which tenant", metadata["tenant"], tenant)
    same("PreconditionFailure is there", "google.rpc.PreconditionFailure" in kinds, True)

    # The newer catalog lets admins do more, which nobody gets unseen.
    moving = dict(catalog_version=2)
    refused("CATALOG_WIDENS_ACCESS", "FAILED_PRECONDITION", "TenantService/MoveCatalog", **moving)
    same("before", verdict(check("ann", "settings.webhooks.manage")), "DENIED")
    changed = call("TenantService/MoveCatalog", **moving, accept_widening=True)["changes"]
    same("who gains", [one["role_id"] for one in changed], ["admin"])
    same("after", verdict(check("ann", "settings.webhooks.manage", consistency=now)), "ALLOWED")
    refused("CATALOG_NOT_NEWER", "FAILED_PRECONDITION", "TenantService/MoveCatalog", **moving)

    # The role goes as the policy asks, then the tenant.
    text = call("RoleService/GetRole", role_id=helper["id"])["role"]["deletion_confirmation_text"]
    ending = dict(role_id=helper["id"], confirmation_text=text)
    refused("ROLE_ASSIGNED", "FAILED_PRECONDITION", "RoleService/DeleteRole", **ending)
    call("MemberService/AssignRoles", member_id="lou", role_ids=["user"])
    call("RoleService/DeleteRole", **ending)
    events = call("RoleService/ListAuditEvents", page_size=1)["events"]
    same("the newest audit event", events[0]["method"], "RoleService/DeleteRole")
    call("TenantService/DeleteTenant")
    gone = check("olga", "chat.view", consistency=now)
    same("a deleted tenant", reason(gone), "TENANT_NOT_FOUND")
    call("TenantService/UndeleteTenant")
    same("brought back", verdict(check("olga", "chat.view", consistency=now)), "ALLOWED")
    refused("TENANT_NOT_DELETED", "FAILED_PRECONDITION", "TenantService/PurgeTenant")
    call("TenantService/DeleteTenant")
    call("TenantService/PurgeTenant")
    refused("TENANT_NOT_FOUND", "NOT_FOUND", "TenantService/GetTenant", show_deleted=True)


def coverage(server):
    ours = {name for name, (path, _) in server.methods.items() if path.startswith(f"/{PACKAGE}")}
    same("methods that were not called", sorted(ours - server.called), [])
    same("services", len({name.partition("/")[0] for name in ours}), 4)
    return len(ours)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def readme_first_check(readme, address, grpcurl):
    """The README's first check, as it stands there, gives the answer that stands there."""
    block = r"<!-- first check -->\s*```sh\n(.*?)```\s*.*?```json\n(.*?)```"
    command, promised = re.search(block, readme, re.DOTALL).groups()
    same("the README's address", command.count("127.0.0.1:50051"), 1)
    path = os.pathsep.join([os.path.dirname(grpcurl), os.environ["PATH"]])
    ran = subprocess.run(
        ["bash", "-euc", command.replace("127.0.0.1:50051", address)],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
    )
    same("the README's check ends with", (ran.returncode, ran.stderr), (0, ""))
    answers = [json.loads(ran.stdout), json.loads(promised)]
    for answer in answers:
        same("it has a token", bool(answer.pop("consistencyToken")), True)
    same("the README's check", *(json.dumps(answer, sort_keys=True) for answer in answers))


def documented_reasons(page, server):
    """Every reason is in the page's table, with the status that the proto files it under."""
    file = server.pool.FindFileByName("rolegate/v1/error_reason.proto")
    values = file.enum_types_by_name["ErrorReason"].values
    reasons = [value.name.removeprefix("ERROR_REASON_") for value in values if value.number]
    rows = re.findall(r"^\| `([A-Z_]+)` \| `([A-Z_`, ]+)` \|", page, re.MULTILINE)
    same("the documented reasons", [name for name, _ in rows], reasons)
    # Reflection serves no comments; the headings are only in the file.
    with open("proto/rolegate/v1/error_reason.proto", encoding="utf-8") as proto:
        text, wanted = proto.read(), {}
    for part in re.split(r"^ *// --- ", text, flags=re.MULTILINE)[1:]:
        heading = re.match(r"[A-Z_]+", part)
        about = re.findall(r"((?: *//.*\n)*) *ERROR_REASON_([A-Z_]+) =", part)
        for comment, name in about:
            inside = re.search(r"// ([A-Z_]+(?:, [A-Z_]+)*): ", comment)
            wanted[name] = heading.group() if heading else inside.group(1)
    rows = {name: status.replace("`", "") for name, status in rows}
    same("the documented statuses", rows, wanted)


def documented_flags(page, rolegate):
    """The page's table of flags has those of `serve --help`, with their defaults."""
    ran = subprocess.run([rolegate, "serve", "--help"], capture_output=True, text=True, timeout=30)
    described = re.split(r"\n\s+(?:-\w, )?(?=--[a-z])", ran.stdout)[1:]
    flags = {}
    for text in described:
        default = re.search(r"\[default: (.*?)\]", text)
        flags[re.match(r"--[a-z-]+", text).group()] = default.group(1) if default else ""
    for name in ["--help", "--version"]:
        flags.pop(name, None)
    rows = re.findall(r"^\| `(--[a-z-]+)(?: [A-Z]+)?` \| (?:`([^`]*)`)? *\|", page, re.MULTILINE)
    same("the documented flags", dict(rows), flags)


def documented_catalog(page, rolegate):
    """The page's catalog is a sound one."""
    text = re.search(r"<!-- catalog example -->\n```toml\n(.*?)```", page, re.DOTALL).group(1)
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        command = [rolegate, "catalog", "check", file.name]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
    same("the documented catalog", (ran.returncode, ran.stderr), (0, ""))


def main():
    address, grpcurl, rolegate = sys.argv[1:]
    server = Server(address)
    health(server)
    story(server)
    print(f"   {coverage(server)} methods called, every one there is")
    readme_first_check(read("README.md"), address, grpcurl)
    documented_reasons(read("docs/reference/errors.md"), server)
    documented_catalog(read("docs/guides/catalogs.md"), rolegate)
    documented_flags(read("docs/reference/command-line.md"), rolegate)
    print("   the README's check, and the reasons, catalog and flags in docs/ are true")


main()

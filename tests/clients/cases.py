"""The mistakes, each once: what a programmer writes, and what was meant.

A key that begins with "!" is written in the other convention than the client's (camelCase where it
wants snake_case, and the other way round). UNDEFINED is JavaScript's.

What each client makes of each, and what the server answers, is in cells.json.
"""

UNDEFINED = {"$undefined": True}

CHECK = "AuthzService/Check"
# A user of team chat, who sees the general pool. Olaf's conversation in another team is not hers.
QUESTION = {"tenant_id": "demo-qpien", "member_id": "ula", "permission": "conversation.view"}
MEANT = {"assignees": {"ids": ["olaf"]}, "teams": {"ids": ["other"]}}
# The owner's knowledge base article that is not public, to an agent of billing.
ARTICLE = {
    "tenant_id": "demo-oqupie",
    "member_id": "alice",
    "permission": "knowledge_base.use_public",
}
ULA = {"tenant_id": "demo-qpien", "member_id": "ula", "validate_only": True}
SYNC = {"tenant_id": "demo-qpien", "validate_only": True}


def resource(name, written, meant=MEANT):
    return (name, CHECK, {**QUESTION, "resource": written}, {**QUESTION, "resource": meant})


def both(value, other=None):
    return {"assignees": value, "teams": value if other is None else other}


CASES = [
    resource("the right shape", MEANT),
    resource("nobody and no team, said", both({"none": True}), both({"none": True})),
    resource("an array instead of the message", both(["olaf"], ["other"])),
    resource("an empty array instead of the message", both([])),
    resource("a text instead of the message", both("olaf", "other")),
    resource("a text instead of the list", both({"ids": "olaf"}, {"ids": "other"})),
    resource("null", both(None)),
    resource("undefined", both(UNDEFINED)),
    resource("an empty message", both({})),
    resource("an empty list", both({"ids": []})),
    resource("a list that is null", both({"ids": None})),
    resource("a list that is undefined", both({"ids": UNDEFINED})),
    resource("a list of null", both({"ids": [None]})),
    resource("a list of undefined", both({"ids": [UNDEFINED]})),
    resource("a list of lists", both({"ids": [["olaf"]]}, {"ids": [["other"]]})),
    resource("a list of an empty text", both({"ids": [""]})),
    resource("a list under another name", both({"id": ["olaf"]}, {"id": ["other"]})),
    resource("a list as a map", both({"ids": {"0": "olaf"}}, {"ids": {"0": "other"}})),
    resource("a number as an id", both({"ids": [7]})),
    resource("a number instead of the message", both(7)),
    resource("a flag instead of the message", both(True)),
    resource("a misspelt field", {"assignee": {"ids": ["olaf"]}, "team": {"ids": ["other"]}}),
    resource("a misspelt field beside one that is said", {"assignee": {"ids": ["olaf"]}, "teams": {"none": True}}),
    resource("ids, and none", both({"ids": ["olaf"], "none": True})),
    resource("ids, and none as a text", both({"ids": ["olaf"], "none": "false"})),
    resource("none that is false", both({"none": False})),
    resource("none as 0", both({"none": 0})),
    resource("none as a text", both({"none": "false"}), both({"none": False})),
    resource("a resource that is an array", [MEANT]),
    resource("a resource that is a text", "42"),
    resource("a resource that is empty", {}),
    resource("a creator in the other convention", {**both({"none": True}, {"ids": ["other"]}), "!creator_id": "olaf"}),
    ("public as a text", CHECK, {**ARTICLE, "resource": {"public": "false"}}, {**ARTICLE, "resource": {"public": False}}),
    ("public as 0", CHECK, {**ARTICLE, "resource": {"public": 0}}, {**ARTICLE, "resource": {"public": False}}),
    ("public that is null", CHECK, {**ARTICLE, "resource": {"public": None}}, {**ARTICLE, "resource": {"public": False}}),
    (
        "a question in the other convention",
        CHECK,
        {"!tenant_id": "demo-qpien", "!member_id": "ula", "permission": "conversation.view", "resource": both({"none": True})},
        {**QUESTION, "resource": both({"none": True})},
    ),
    (
        "a freshness in the other convention",
        CHECK,
        {**QUESTION, "resource": MEANT, "consistency": {"!fully_consistent": True}},
        {**QUESTION, "resource": MEANT, "consistency": {"fully_consistent": True}},
    ),
    (
        "a token instead of the tokens",
        CHECK,
        {**QUESTION, "resource": MEANT, "consistency": {"at_least_as_fresh": ["token"]}},
        {**QUESTION, "resource": MEANT, "consistency": {"at_least_as_fresh": {"tokens": ["token"]}}},
    ),
    ("roles in the other convention", "MemberService/AssignRoles", {**ULA, "!role_ids": ["limited_user"]}, {**ULA, "role_ids": ["limited_user"]}),
    ("roles under another name", "MemberService/AssignRoles", {**ULA, "roles": ["limited_user"]}, {**ULA, "role_ids": ["limited_user"]}),
    (
        "a mask as an array",
        "MemberService/UpdateMember",
        {**ULA, "team_ids": ["chat"], "update_mask": ["team_ids"]},
        {**ULA, "team_ids": ["chat"], "no_teams": True},
    ),
    (
        "a status by its short name",
        "MemberService/BatchUpsertMembers",
        {**SYNC, "members": [{"member_id": "ula", "status": "ARCHIVED"}]},
        {**SYNC, "members": [{"member_id": "ula"}]},
    ),
    (
        "roles of a batch as an array",
        "MemberService/BatchUpsertMembers",
        {**SYNC, "members": [{"member_id": "ula", "role_ids": ["limited_user"], "keep_status": True}]},
        {**SYNC, "members": [{"member_id": "ula", "role_ids": {}, "keep_status": True}]},
    ),
    (
        "the members of a batch under another name",
        "MemberService/BatchUpsertMembers",
        {**SYNC, "member": [{"member_id": "ula", "keep_status": True}], "archive_absent": True},
        {**SYNC, "members": [], "archive_absent": True},
    ),
]

# What only the client could notice: it says true for any text that is not empty, before the server
# sees anything. See docs/guides/clients.md for the cure, which must notice it.
UNSEEN = {"none as a text", "public as a text"}

#!/usr/bin/env python3
"""Writes conversations.json: 300 conversations of a made-up shop, always the same ones.

python3 examples/chat/conversations.py > examples/chat/conversations.json

A fifth is in the general pool (nobody assigned, no team), a quarter waits unassigned in a team, the
rest is assigned to somebody, inside or outside a team. Every ninth has somebody following it. There
is no random number in it: each choice steps through its list at a pace of its own.
"""

import json

ASSIGNEES = ["ula", "lena", "uwe", "leo", "tina", "una", "anna", "zoe"]
TEAMS = ["sales", "support", "returns"]
FOLLOWERS = [["pat"], ["pat", "lena"], ["una"], ["leo", "toby"]]
SUBJECTS = [
    "Where is my parcel?",
    "I was charged twice",
    "Does it come in green?",
    "The app logs me out",
    "Return label",
    "Change of address",
    "A question about the guarantee",
]

rows = []
for n in range(300):
    kind = n * 7 % 20
    pool = kind < 4
    waiting = 4 <= kind < 9
    rows.append(
        {
            "id": f"C-{n + 1:03}",
            "subject": SUBJECTS[n * 5 % len(SUBJECTS)],
            "assignee": None if pool or waiting else ASSIGNEES[n * 3 % len(ASSIGNEES)],
            "team": None if pool or kind > 16 else TEAMS[n * 11 % len(TEAMS)],
            "participants": FOLLOWERS[n // 9 % len(FOLLOWERS)] if n % 9 == 0 else [],
        }
    )
print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")

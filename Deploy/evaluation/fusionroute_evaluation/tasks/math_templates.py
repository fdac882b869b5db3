"""Word problems in two and three steps.

A template has ranges of its numbers, a condition on them, wordings, and steps `text: expression`. The value of step i
is the number v<i> of later steps; the last one is the answer. `{name}`, `{other}` and `{items}` are filled in.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    name: str
    ranges: dict
    condition: str
    wordings: tuple
    steps: tuple
    is_held_out: bool = False


def _t(name, ranges, condition, wordings, steps, held_out=False):
    return Template(name, ranges, condition, tuple(wordings), tuple(steps), held_out)


TEMPLATES = (
    _t(
        "boxes_sold",
        dict(a=(2, 9), b=(6, 25), c=(5, 60)),
        "a*b-c>0",
        [
            "{name} has {a} boxes with {b} {items} each and sells {c} of them. How many {items} are left?",
            "There are {b} {items} in each of {name}'s {a} boxes. {name} sells {c} {items}. How many remain?",
        ],
        ["{a} boxes with {b} each: {a}*{b}", "{v0} {items}, {c} sold: {v0}-{c}"],
    ),
    _t(
        "bags_found",
        dict(a=(2, 9), b=(6, 25), c=(5, 60)),
        "True",
        [
            "{name} fills {a} bags with {b} {items} each and finds {c} more. How many {items} does {name} have?",
            "{name} owns {a} bags of {b} {items} and gets {c} more {items}. How many {items} is that in all?",
        ],
        ["{a} bags with {b} each: {a}*{b}", "{v0} {items} and {c} more: {v0}+{c}"],
    ),
    _t(
        "give_and_get",
        dict(a=(20, 60), b=(3, 19), c=(3, 40)),
        "True",
        [
            "{name} has {a} {items}, gives {b} to {other} and then buys {c}. How many {items} does {name} have now?",
            "Out of {a} {items}, {name} hands {b} to {other}. Later {name} buys {c}. How many {items} are there now?",
        ],
        ["{a} {items}, {b} given away: {a}-{b}", "{v0} {items} and {c} bought: {v0}+{c}"],
    ),
    _t(
        "two_kinds",
        dict(a=(2, 9), b=(3, 12), c=(2, 9), d=(3, 12)),
        "a!=c",
        [
            "{name} buys {a} pens for {b} coins each and {c} books for {d} coins each. How many coins is that?",
            "A pen costs {b} coins and a book {d} coins. {name} takes {a} pens and {c} books. How many coins is it?",
        ],
        ["{a} pens at {b} each: {a}*{b}", "{c} books at {d} each: {c}*{d}", "both: {v0}+{v1}"],
    ),
    _t(
        "change",
        dict(a=(2, 8), b=(3, 9), c=(10, 90)),
        "a*b<c",
        [
            "{name} pays for {a} tickets at {b} coins each with {c} coins. How many coins come back?",
            "A ticket costs {b} coins. {name} buys {a} and hands over {c} coins. How much change is due?",
        ],
        ["{a} tickets at {b} each: {a}*{b}", "{c} coins, {v0} spent: {c}-{v0}"],
    ),
    _t(
        "share_after_loss",
        dict(a=(2, 8), b=(4, 15), c=(2, 20)),
        "True",
        [
            "{name} had some {items}. After losing {c}, the rest was shared by {a} children, {b} each. "
            "How many {items} did {name} have at first?",
            "{a} children got {b} {items} each, and {c} were lost before. How many {items} were there at first?",
        ],
        ["{a} children with {b} each: {a}*{b}", "{v0} shared and {c} lost: {v0}+{c}"],
    ),
    _t(
        "split_equally",
        dict(a=(2, 9), b=(3, 12), c=(2, 25)),
        "True",
        [
            "{name} has {x} {items} and keeps {c}. The rest is shared equally by {a} friends. "
            "How many {items} does each friend get?",
            "Of {x} {items}, {c} stay with {name}; {a} friends share the others equally. How many does each get?",
        ],
        ["{x} {items}, {c} kept: {x}-{c}", "{v0} shared by {a}: {v0}/{a}"],
    ),
    _t(
        "rows_of_trees",
        dict(a=(3, 9), b=(4, 20), c=(2, 30)),
        "a*b-c>0",
        [
            "A park has {a} rows of {b} trees. A storm fells {c} trees. How many trees still stand?",
            "{b} trees stand in each of {a} rows. After a storm {c} are gone. How many trees are there now?",
        ],
        ["{a} rows with {b} each: {a}*{b}", "{v0} trees, {c} gone: {v0}-{c}"],
    ),
    _t(
        "twice_plus",
        dict(a=(5, 40), b=(2, 5)),
        "True",
        [
            "{name} has {a} {items}. {other} has {b} times as many. How many {items} do they have together?",
            "{other} owns {b} times as many {items} as {name}, who owns {a}. How many {items} do both have?",
        ],
        ["{other} has {b} times {a}: {b}*{a}", "both: {a}+{v0}"],
    ),
    _t(
        "more_than",
        dict(a=(8, 50), b=(3, 40)),
        "True",
        [
            "{name} collects {a} {items}. {other} collects {b} more than {name}. How many do they collect together?",
            "{other} finds {b} more {items} than {name}, who finds {a}. How many {items} do both find?",
        ],
        ["{other} has {b} more than {a}: {a}+{b}", "both: {a}+{v0}"],
    ),
    _t(
        "fewer_than",
        dict(a=(20, 60), b=(3, 19)),
        "True",
        [
            "{name} reads {a} pages. {other} reads {b} pages fewer. How many pages do they read together?",
            "{other} reads {b} pages fewer than {name}, who reads {a}. How many pages do both read?",
        ],
        ["{other} reads {b} fewer than {a}: {a}-{b}", "both: {a}+{v0}"],
    ),
    _t(
        "work_days",
        dict(a=(2, 8), b=(2, 7), c=(3, 12)),
        "True",
        [
            "{name} works {a} hours a day for {b} days and earns {c} coins an hour. How many coins does {name} earn?",
            "For each hour {name} gets {c} coins. {name} works {b} days of {a} hours. How many coins is that?",
        ],
        ["{b} days with {a} hours each: {b}*{a}", "{v0} hours at {c} coins: {v0}*{c}"],
    ),
    _t(
        "savings",
        dict(a=(3, 15), b=(2, 9), c=(20, 90)),
        "True",
        [
            "{name} has {c} coins and saves {a} coins a week for {b} weeks. How many coins does {name} have then?",
            "Each week {name} saves {a} coins. After {b} weeks, with {c} from before, how many coins are there?",
        ],
        ["{b} weeks at {a} coins: {b}*{a}", "{c} coins and {v0} saved: {c}+{v0}"],
    ),
    _t(
        "bus",
        dict(a=(15, 50), b=(3, 14), c=(3, 20)),
        "True",
        [
            "A bus carries {a} people. At a stop {b} get off and {c} get on. How many people are on the bus?",
            "{a} people sit in a bus. Then {b} leave and {c} enter. How many people are in the bus now?",
        ],
        ["{a} people, {b} off: {a}-{b}", "{v0} people, {c} on: {v0}+{c}"],
    ),
    _t(
        "broken_packs",
        dict(a=(2, 9), b=(6, 20), c=(1, 5)),
        "b-c>1",
        [
            "{name} buys {a} packs of {b} {items}. In every pack {c} are broken. How many good {items} are there?",
            "Each of {a} packs holds {b} {items}, of which {c} are broken. How many {items} are not broken?",
        ],
        ["{b} in a pack, {c} broken: {b}-{c}", "{a} packs with {v0} each: {a}*{v0}"],
    ),
    _t(
        "plates_both",
        dict(a=(2, 9), b=(2, 9), c=(3, 12)),
        "True",
        [
            "{name} sets {a} tables with {b} plates each, and {c} cups on every table. "
            "How many plates and cups are there together?",
            "On each of {a} tables are {b} plates and {c} cups. How many pieces is that in all?",
        ],
        ["{b} plates and {c} cups: {b}+{c}", "{a} tables with {v0} each: {a}*{v0}"],
    ),
    _t(
        "distance",
        dict(a=(3, 20), b=(2, 8), c=(5, 50)),
        "True",
        [
            "{name} rides {a} km an hour for {b} hours and then walks {c} km. How many km is that?",
            "After riding {b} hours at {a} km an hour, {name} walks another {c} km. How far did {name} come in km?",
        ],
        ["{b} hours at {a} km: {b}*{a}", "{v0} km and {c} walked: {v0}+{c}"],
    ),
    _t(
        "remaining_pages",
        dict(a=(4, 20), b=(2, 9), c=(40, 99)),
        "a*b<c",
        [
            "A book has {c} pages. {name} reads {a} pages a day for {b} days. How many pages are left?",
            "{name} reads {a} pages each day. After {b} days, how many of {c} pages are still unread?",
        ],
        ["{b} days at {a} pages: {b}*{a}", "{c} pages, {v0} read: {c}-{v0}"],
    ),
    _t(
        "three_people",
        dict(a=(5, 30), b=(2, 12), c=(2, 12)),
        "b!=c",
        [
            "{name} has {a} {items}. {other} has {b} more than {name}, and Sam has {c} more than {other}. "
            "How many {items} does Sam have?",
            "Sam has {c} more {items} than {other}, who has {b} more than {name}. {name} has {a}. How many has Sam?",
        ],
        ["{other} has {b} more than {a}: {a}+{b}", "Sam has {c} more than {v0}: {v0}+{c}"],
    ),
    _t(
        "half_sold",
        dict(a=(2, 9), b=(3, 12)),
        "(a*b)%2==0",
        [
            "{name} bakes {a} trays of {b} rolls and sells half of them. How many rolls are left?",
            "There are {a} trays with {b} rolls each. {name} sells half of all rolls. How many rolls remain?",
        ],
        ["{a} trays with {b} each: {a}*{b}", "half of {v0}: {v0}/2"],
    ),
    _t(
        "eggs_left",
        dict(a=(2, 8), b=(3, 9), c=(2, 5), d=(1, 9)),
        "a*b-d*c>0 and c!=a",
        [
            "{a} hens lay {b} eggs each. {name} uses {c} eggs for each of {d} cakes. How many eggs are left?",
            "{name} gets {b} eggs from each of {a} hens and needs {c} eggs for a cake. "
            "How many eggs are left after {d} cakes?",
        ],
        ["{a} hens with {b} each: {a}*{b}", "{d} cakes with {c} each: {d}*{c}", "{v0} eggs, {v1} used: {v0}-{v1}"],
    ),
    _t(
        "team_points",
        dict(a=(2, 9), b=(2, 9), c=(3, 30)),
        "True",
        [
            "{name} scores {a} goals worth {b} points each. {other} scores {c} points. "
            "How many points do they score together?",
            "A goal gives {b} points. {name} shoots {a} goals and {other} adds {c} points. How many points is that?",
        ],
        ["{a} goals at {b} each: {a}*{b}", "{v0} points and {c} more: {v0}+{c}"],
    ),
    _t(
        "price_cut",
        dict(a=(12, 40), b=(2, 9), c=(2, 8)),
        "a-b>1",
        [
            "A lamp costs {a} coins. The price drops by {b} coins, and {name} buys {c} lamps. How many coins is that?",
            "{name} buys {c} lamps, each {b} coins cheaper than the old price of {a} coins. What does {name} pay?",
        ],
        ["{a} coins, {b} less: {a}-{b}", "{c} lamps at {v0} each: {c}*{v0}"],
    ),
    _t(
        "three_trips",
        dict(a=(3, 20), b=(3, 20), c=(3, 20), d=(2, 5)),
        "len({a,b,c})==3",
        [
            "{name} carries {a}, {b} and {c} bricks in a round. How many bricks are carried in {d} such rounds?",
            "In each of {d} rounds {name} brings {a}, then {b}, then {c} bricks. How many bricks is that?",
        ],
        ["{a} and {b} bricks: {a}+{b}", "{v0} and {c} bricks: {v0}+{c}", "{d} rounds with {v1} each: {d}*{v1}"],
    ),
    # Held out: no expert and no router is trained on these.
    _t(
        "tank",
        dict(a=(20, 90), b=(2, 9), c=(2, 9)),
        "a-b*c>0",
        [
            "A tank holds {a} litres. Every hour {b} litres flow out. How many litres are left after {c} hours?",
            "{b} litres an hour run out of a tank with {a} litres. How much is in it after {c} hours?",
        ],
        ["{c} hours at {b} litres: {c}*{b}", "{a} litres, {v0} gone: {a}-{v0}"],
        held_out=True,
    ),
    _t(
        "marbles_three",
        dict(a=(5, 30), b=(5, 30), c=(3, 20)),
        "a+b-c>0 and a!=b",
        [
            "{name} has {a} red and {b} blue {items} and loses {c}. How many {items} are left?",
            "Of {a} red and {b} blue {items}, {c} get lost. How many {items} does {name} still have?",
        ],
        ["{a} red and {b} blue: {a}+{b}", "{v0} {items}, {c} lost: {v0}-{c}"],
        held_out=True,
    ),
    _t(
        "legs",
        dict(a=(2, 9), b=(2, 12)),
        "a!=b",
        [
            "On a farm are {a} cows with 4 legs each and {b} ducks with 2 legs each. How many legs is that?",
            "{name} counts the legs of {a} cows (4 each) and {b} ducks (2 each). How many legs are there?",
        ],
        ["{a} cows with 4 each: {a}*4", "{b} ducks with 2 each: {b}*2", "both: {v0}+{v1}"],
        held_out=True,
    ),
    _t(
        "shelf_fill",
        dict(a=(2, 9), b=(5, 15), c=(10, 60)),
        "c<a*b",
        [
            "A case has {a} shelves for {b} books each. {c} books stand in it. How many more books fit?",
            "Each of {a} shelves takes {b} books. {name} has put in {c} books. For how many is there room?",
        ],
        ["{a} shelves with {b} each: {a}*{b}", "{v0} places, {c} taken: {v0}-{c}"],
        held_out=True,
    ),
    _t(
        "two_fields",
        dict(a=(10, 50), b=(3, 20), c=(2, 6)),
        "True",
        [
            "One field gives {a} sacks, another {b} sacks more. {name} sells the second one's for {c} coins each. "
            "How many coins is that?",
            "The second field gives {b} sacks more than the first with {a}. At {c} coins a sack, what is it worth?",
        ],
        ["{b} more than {a}: {a}+{b}", "{v0} sacks at {c} coins: {v0}*{c}"],
        held_out=True,
    ),
    _t(
        "class_groups",
        dict(a=(2, 8), b=(3, 9), c=(1, 9)),
        "True",
        [
            "A class forms {a} groups of {b} children, and {c} children are ill. How many children are in the class?",
            "With {c} children ill, the others form {a} groups of {b}. How many children belong to the class?",
        ],
        ["{a} groups with {b} each: {a}*{b}", "{v0} children and {c} ill: {v0}+{c}"],
        held_out=True,
    ),
)

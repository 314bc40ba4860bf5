"""Generates the training text: stories, chats about them, and some plain prose.

    python corpus.py [seed] [count]     prints a few documents to look at

Everything is made from the tables in world.py, the plots in plots.py and the templates here.
"""
import functools
import random
import re
import sys

from plots import PLOTS
from talk import CAPITALS, CHAT, DESCRIPTIONS, FALLBACK, JOKES, LETTERS, OFF_TOPIC, POEMS, RECIPES, SCENE, SCENE_NEXT, SYSTEM, TOPICS
from world import (ADJECTIVES, CHARACTERS, FACTS, HABITATS, HE, LIKES, NOT_FOR_PEOPLE, RARE, PEOPLE, SEA_THINGS, SHE, THEMES, THINGS)

BOS, END, SYS, USER, ASSISTANT = "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
MOVES = {"walk": "walk walked ran run walking", "hop": "hop hopped raced race hopping",
         "fly": "fly flew raced race flying", "swim": "swim swam raced race swimming",
         "crawl": "crawl crawled hurried hurry crawling", "roll": "roll rolled raced race rolling"}


# ---- templates ----

@functools.lru_cache(None)
def parse(template):
    """`text [a|b] {slot}` to a list of strings, ("slot",) tuples and lists of alternatives."""
    def alternatives(i):
        alts, seq, text = [], [], ""
        while i < len(template):
            c = template[i]
            if c in "[]|{" and text:
                seq.append(text)
                text = ""
            if c == "[":
                node, i = alternatives(i + 1)
                seq.append(node)
            elif c == "|":
                alts.append(seq)
                seq = []
            elif c == "]":
                return alts + [seq], i
            elif c == "{":
                end = template.index("}", i)
                seq.append((template[i + 1:end],))
                i = end
            else:
                text += c
            i += 1
        if text:
            seq.append(text)
        return alts + [seq], i
    return alternatives(0)[0]


def expand(template, slots, rng):
    def run(alts):
        out = []
        for node in (alts[0] if len(alts) == 1 else rng.choice(alts)):
            if isinstance(node, str):
                out.append(node)
            elif isinstance(node, list):
                out.append(run(node))
            else:
                name = node[0]
                if name[0] == "^":
                    value = expand(slots[name[1:]], slots, rng)
                    out.append(value[:1].upper() + value[1:])
                elif name in slots:
                    out.append(expand(slots[name], slots, rng))
                else:  # {Thing} is {thing} in title case
                    out.append(expand(slots[name.lower()], slots, rng).title())
        return "".join(out)
    return run(parse(template))


AN = re.compile(r"\b([Aa]) (?=[aeiouAEIOU](?!ni|ne\b|uca))")
START = re.compile(r'((?:^|[.!?] |\." |\n)"?)(?!kvrm)([a-z])')


def tidy(text):
    text = re.sub(r" {2,}", " ", text).strip()
    text = AN.sub(r"\1n ", text)
    return START.sub(lambda m: m[1] + m[2].upper(), text)


# ---- characters ----

def invent(rng):
    """A word that does not exist, so that nouns and names must be copied, not remembered."""
    syllables = [rng.choice("b bl br c ch d dr f fl g gl gr h j k l m n p pl qu r s sh sn t tr v w y z".split())
                 + rng.choice("a e i o u ar er in on".split()) for _ in range(rng.choice((1, 2, 2, 3)))]
    return "".join(syllables) + rng.choice(("a", "o", "y", "le", "et", "er", "on", "b", "ck", "m", "n", "p", "r", "t", "x"))


def odd_noun(rng):
    """A noun from no list: made up, or of two words that hardly ever met."""
    if rng.random() < 0.4:
        return invent(rng)
    one = rng.choice(FIRST_WORDS if rng.random() < 0.5 else SHORT_NOUNS)
    return one + rng.choice((" ", " ", "")) + rng.choice(SHORT_NOUNS)


KNOWN = {c[0]: c for c in CHARACTERS}
SHORT_NOUNS = [n for n in [c[0] for c in CHARACTERS] + [n for _, _, nouns in RARE for n in nouns] if len(n) < 8 and " " not in n]
FIRST_WORDS = "magic haunted flying talking giant baby paper iron wooden space sea mountain invisible wise dancing singing river snow fire ice stone lost sweet wild royal secret".split()


def hero(row):
    return row[0], [w.strip() for w in row[1].split(",")], row[2], row[3]


def somebody(rng):
    """noun, habitats, way of moving, gender of a random hero."""
    x = rng.random()
    if x < 0.60:
        return hero(rng.choice(CHARACTERS))
    elif x < 0.67:
        return hero(KNOWN[rng.choice(("boy", "girl", "girl", "dog", "cat", "fox", "bear", "dragon"))])
    elif x < 0.85:
        h, m, nouns = rng.choice(RARE)
        return rng.choice(nouns), h, m, "?"
    return odd_noun(rng), ["forest", "meadow", "town", "mountain", "jungle"], "walk", "?"


def person_name(rng, gender):
    if rng.random() < 0.12:
        return invent(rng).capitalize()
    return rng.choice(HE if gender == "h" else SHE)


PRONOUNS = {"h": "he him his himself", "s": "she her her herself"}


class Story:
    """One hero, one friend, one place; `text()` tells a plot, again and again for more chapters."""

    def __init__(self, rng, pair=False, theme=None, hero=None, named=None, described=False, likes=False):
        self.rng, self.pick, self.pair = rng, rng.choice, pair
        self.noun, habitats, self.move, gender = hero or somebody(rng)
        self.habitat = rng.choice(habitats)
        if self.noun in ("boy", "girl"):
            named = True
        if gender == "?":
            gender = rng.choice("hs")
        named = rng.random() < 0.85 if named is None else named
        self.name = person_name(rng, gender) if named else None
        adjectives = [a for a in ADJECTIVES if not (a in NOT_FOR_PEOPLE and self.noun in PEOPLE)]
        self.adj = rng.choice(adjectives) if described or rng.random() < 0.7 else None
        places, spots, homes, foods, friends, self.asked = HABITATS[self.habitat]
        a, b, c = rng.sample(spots, 3)
        f, g = rng.sample(foods, 2)
        v = self.v = dict(spot1=a, spot2=b, spot3=c, food=f, food2=g, place=rng.choice(places), home=rng.choice(homes),
                          like=rng.choice(LIKES), p="the " + self.noun, noun=self.noun, name=self.name or "",
                          P=f"[{self.name}|{self.name}|the {self.noun}]" if named else "the " + self.noun)
        adj = self.adj + " " if self.adj else ""
        v["bareP"] = f"a {adj}{self.noun}"
        v["aP"] = v["bareP"] + (f" [named|named|called] {self.name}" if named else "")
        v.update(zip("walk walked ran run walking".split(), MOVES[self.move].split()))
        v.update(zip("he him his himself".split(), PRONOUNS[gender].split()))
        v["oneday"] = ("[one day|one day|one {sunny} morning|one {sunny} day|one afternoon|one evening]"
                       if self.habitat not in ("sea", "space") else "[one day|one morning|one evening]")
        v["sunny"] = "[hot|sunny|bright]" if self.habitat in ("desert", "savanna") else "[cold|clear|bright]" if self.habitat == "snow" else "[sunny|warm|windy|bright]"
        # The friend: of the other gender where possible.
        other = "s" if gender == "h" else "h"
        friends = [n for n in friends if n != self.noun and KNOWN.get(n, "    ")[3] != gender]
        q = rng.choice(friends)
        if pair and rng.random() < 0.6:
            q = somebody(rng)[0] if rng.random() < 0.3 else rng.choice(CHARACTERS)[0]
            if q == self.noun or q in ("boy", "girl", "star"):
                q = rng.choice(friends)
        self.friend = q
        fixed = KNOWN.get(q, "   ?")[3]
        qgender = other if fixed == "?" else fixed
        self.qname = person_name(rng, qgender) if rng.random() < (0.5 if named else 0.25) else None
        if self.qname == self.name:
            self.qname = None
        v.update(zip("qhe qhim qhis".split(), PRONOUNS[qgender].split()))
        v["q"] = "the " + q
        v["Q"] = f"[{self.qname}|{self.qname}|the {q}]" if self.qname else "the " + q
        v["aQ"] = f"a [old|little|kind|wise|young|friendly||] {q}" + (f" named {self.qname}" if self.qname else "")
        self.others = [n for n in friends if n != q]
        self.theme, self.likes, self.told, self.paragraphs = theme, likes, [], False
        self.known_q = False

    def thing(self):
        return self.pick(SEA_THINGS if self.habitat == "sea" else THINGS)

    def best(self):
        return "" if self.known_q else self.pick(("{^his} best friend was {aQ}.", "{^P} had a good friend, {aQ}.", "{^his} best friend was {aQ}, who lived nearby."))

    def say(self, template):
        return tidy(expand(template, self.v, self.rng))

    def meet_friend(self):
        self.known_q, self.v["aQ"] = True, "{Q}"

    def plot(self):
        """Fixes the next plot and returns it."""
        fit = [n for n, (_, never) in PLOTS.items() if self.habitat not in never and n not in self.told
               and not (n == "lonely" and (self.pair or self.told)) and n != self.noun]
        wanted = [n for n in fit if n in THEMES.get(self.theme, ())]
        name = self.pick(wanted or fit)
        self.themed = bool(wanted)
        r = self.pick(self.others)
        self.v.update(R="the " + r, aR=f"a [little|small|tiny|young|] {r}", thing=self.thing())
        self.told.append(name)
        t = self.tale = PLOTS[name][0](self)
        self.v["moral"] = expand(t["moral"], self.v, self.rng)
        return t

    def opening(self):
        v, pick = self.v, self.pick
        time = "[Once upon a time|Once upon a time|Once upon a time|Long ago|A long time ago|Once|Many years ago]"
        if self.pair:
            if pick((0, 1)):
                first = time + ", {aP} and {aQ} lived {place}. They were [the best of friends|good friends|neighbors]."
            else:
                first = time + ", there was {aP}. {^he} lived {place}, and {his} best friend was {aQ}."
        else:
            first = pick((time + ", there was {aP} who lived {place}.", time + ", there was {aP}. {^he} lived {place}.",
                          time + ", there lived {aP} {place}.", time + ", {place}, there lived {aP}.",
                          "{aP} lived {place}.", "{^place}, there lived {aP}.", "There was once {aP} who lived {place}.",
                          time + ", there was {bareP}. {^his} name was {name}, and {he} lived {place}." if self.name else
                          time + ", there was {bareP} who lived {place}."))
        out = [first]
        if pick((0, 0, 1)):
            out.append("[{^his} home was {home}.|{^he} lived in {home}.]" if not self.pair else "{^P} lived in {home}.")
        if self.adj and pick((0, 1, 1)):
            # a pair's sentences name the hero, because "she" could be either
            s = ADJECTIVES[self.adj]
            out.append(s.replace("{^he} ", "{^P} ").replace("{^his} ", "{^P}'s ") if self.pair else s)
        if self.likes or pick((0, 0, 1)):
            out.append("{^P} [loved|liked] {like}.")
        text = self.say(" ".join(out))
        if self.pair:
            self.meet_friend()
        return text

    def closing(self):
        return self.say(self.pick(("From that day on, {P} knew that {moral}.", "{^P} never forgot that {moral}.", "And so {P} learned that {moral}.",
                                   "{^P} had learned that {moral}.", "Since that day, {P} has known that {moral}."))
                        + self.pick(("", "", " The end.", " And they all lived happily ever after." if self.pick((0, 1)) else "")))

    def chapter(self):
        """The next plot, without opening and closing."""
        beats = self.plot()["beats"]
        # A blank line between some beats, as books have.
        sep = ["\n\n" if self.paragraphs and i in (2, 4, 6) else " " for i in range(len(beats))]
        body = "".join(s + b for s, b in zip(sep, beats))
        text = "\n\n".join(self.say(part) for part in body.split("\n\n"))
        if "aQ}" in body:
            self.meet_friend()
        return text

    def text(self, length="normal"):
        self.paragraphs = self.rng.random() < 0.25
        start = self.opening()
        if length == "short":
            t = self.plot()
            out = start + " " + self.say(t["short"]) + " " + self.closing()
            self.meet_friend()
            return out
        join = "\n\n" if self.paragraphs else " "
        out = start + join + self.chapter()
        if length == "normal":
            return out + " " + self.closing()
        chapters = self.pick((2, 2, 3, 3, 4, 5))
        titled = self.pick((0, 1))
        if titled:
            out = "Chapter 1\n\n" + out
        for i in range(2, chapters + 1):
            self.v["oneday"] = "[the next day|a few days later|the next week|some time later|a month later]"
            out += ("\n\nChapter %d\n\n" % i if titled else "\n\n") + self.chapter()
        return out + " " + self.closing()

    def more(self):
        """What happened next."""
        self.v["oneday"] = "[the next day|a few days later|the next week|some time later]"
        return self.chapter() + " " + self.closing()

    def title(self):
        return self.say(self.tale["title"])


# ---- requests ----

ASK = [("Tell me a {l}story about ", 10), ("Tell me a {l}tale about ", 1), ("Write a {l}story about ", 3), ("Write me a {l}story about ", 1),
       ("Please tell me a {l}story about ", 2), ("Can you tell me a {l}story about ", 2), ("Could you tell me a {l}tale of ", 1),
       ("Can you write a {l}story about ", 1), ("I want to hear a {l}story about ", 1), ("I would like a {l}story about ", 1),
       ("Make up a {l}story about ", 1), ("Give me a {l}story about ", 1), ("Do you know a {l}story about ", 1),
       ("A {l}story about ", 1), ("{l}story about ", 1), ("Tell me about the adventures of ", 1), ("Create a {l}fairy tale about ", 1),
       ("Tell me a {l}bedtime story about ", 2), ("Hi! Tell me a {l}story about ", 1), ("Once more: a {l}story about ", 1)]
# Clauses and wishes that the story does not take up, but that must not throw it off.
ODD = ["who goes to school", "who works in a bank", "who drives a car", "who likes pizza", "who lives in Paris", "and a magic hat", "who is a spy",
       "who can talk", "who meets a giant", "who travels through time", "who plays football", "with a secret", "in the year 2050", "from the moon",
       "who saves the day", "with three legs", "who finds a magic door", "who has a dream", "in a rainy city", "who wants to be king", "and the sea"]
EXTRA = ["It should have a happy ending.", "Make it funny.", "Use simple words.", "Please make it nice.", "It should be for children.", "I like animals.", "It should have a moral."]
NO_TOPIC = ["Tell me a {l}story", "Tell me a {l}story please", "Can you tell me a {l}story", "Write a {l}story", "I am bored. Tell me a {l}story",
            "Tell me something nice", "A {l}story, please", "Please tell me a {l}bedtime story", "Tell me a {l}fairy tale", "I can't sleep. Tell me a {l}story"]


def plural(noun):
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    return {"mouse": "mice", "wolf": "wolves", "goose": "geese", "sheep": "sheep", "fish": "fish", "deer": "deer", "elf": "elves",
            "moose": "moose", "child": "children"}.get(noun) or (noun[:-1] + "ies" if noun[-1] == "y" and noun[-2] not in "aeiou" else noun + "s")


def loosely(rng, text):
    """As people type: sometimes in lower case, often without the final stop."""
    text = tidy(text)
    x = rng.random()
    text = text.lower() if x < 0.15 else text.upper() if x < 0.17 else text
    if text[-1] in ".?!":
        return text
    question = text.lower().startswith(("can ", "could ", "do ", "would "))
    return text + rng.choice(("", "", "?" if question else ".", "?" if question else "", "!" if not question else "?", " please" if "lease" not in text else ""))


def story_chat(rng):
    """A request, the story, and the Story itself for later questions."""
    kind = rng.choices(("noun", "adj", "named", "pair", "clause", "like", "odd", "place", "theme", "name", "none", "go on"),
                       (38, 13, 7, 12, 11, 2, 3, 4, 6, 4, 4, 2))[0]
    if kind == "pair":
        s = Story(rng, pair=True)
    elif kind == "theme":
        s = Story(rng, theme=rng.choice(list(THEMES)))
    elif kind in ("named", "name"):
        s = Story(rng, named=True)
    else:
        s = Story(rng, described=kind == "adj", likes=kind == "like")
    if kind == "go on":
        start = s.opening()
        return rng.choice(("Continue this story: ", "Continue the story: ", "Finish this story: ", "How does this story go on? ")) + start, s.chapter() + " " + s.closing(), s
    length = rng.choices(("normal", "short", "long"), (86, 9, 5))[0]
    answer = s.text(length)
    noun = s.noun
    topic = {
        "noun": lambda: rng.choice([f"a {noun}"] * 8 + [f"the {noun}", noun, plural(noun)]),
        "adj": lambda: f"a {s.adj} {noun}",
        "named": lambda: f"a {noun} " + rng.choice(("named ", "called ")) + s.name,
        "pair": lambda: f"a {noun} and a {s.friend}" if rng.random() < 0.9 else f"a {noun} and {s.v['his']} friend, a {s.friend}",
        "clause": lambda: f"a {noun} " + expand(s.tale["clause"], s.v, rng),
        "like": lambda: f"a {noun} who " + rng.choice(("likes ", "loves ")) + s.v["like"],
        "odd": lambda: f"a {noun} " + rng.choice(ODD),
        "place": lambda: f"a {noun} " + rng.choice(("", "who lives ")) + rng.choice(s.asked),
        "theme": lambda: s.theme if s.themed else f"a {noun}",
        "name": lambda: rng.choice((s.name, s.name, f"my {noun} {s.name}", f"{s.name} the {noun}")),
        "none": lambda: None,
    }[kind]()
    word = {"normal": "", "short": rng.choice(("short ", "short ", "very short ", "little ")), "long": rng.choice(("long ", "longer ", "very long "))}[length]
    if length == "normal" and rng.random() < 0.12:
        word = rng.choice(("nice ", "good ", "funny ", "happy ", "new ", "short "))
    if topic is None:
        ask = rng.choice(NO_TOPIC)
    else:
        asks = ASK if length == "normal" else [a for a in ASK if "{l}" in a[0]]
        ask = rng.choices([a for a, _ in asks], [w for _, w in asks])[0] + topic
    ask = loosely(rng, ask.replace("{l}", word))
    if length != "long" and rng.random() < 0.04:
        ask = ask.rstrip("?.!") + ". " + rng.choice(EXTRA)
    return ask, answer, s


# ---- follow-up turns ----

def follow_up(rng, s):
    """(question, answer) about the story just told, or a next story."""
    v, kind = s.v, rng.choices(("qa", "moral", "name", "home", "short", "next", "again", "other", "thanks", "title"), (24, 8, 8, 4, 5, 8, 16, 16, 10, 3))[0]
    say = s.say
    if kind == "qa" and s.tale["qa"]:
        q, a = rng.choice(s.tale["qa"])
        return say(q), say(a), s
    if kind == "moral":
        return (say("[What is the moral of the story?|What did {P} learn?|What do we learn from this story?|What is the moral?]"),
                say("[{^P} learned that {moral}.|The story tells us that {moral}.|The moral of the story is that {moral}.]"), s)
    if kind == "name":
        ask = say("[What was the name of {p}?|What was {p} called?|What is the name of the {noun}?]")
        return ask, say("[The name of {p} was {name}.|{^p} was called {name}.]" if s.name else "The story does not tell us the name of {p}."), s
    if kind == "home":
        return say("[Where did {p} live?|Where does {P} live?]"), say("{^P} lived {place}."), s
    if kind == "short":
        return (say("[Make it shorter|Can you make it shorter?|Tell it in a few words|Summarize the story|Please summarize it]"),
                say(s.tale["short"]), s)
    if kind == "next" and len(s.told) < 5:
        return say("[What happened next?|Go on|Continue|Please continue|And then?|What happened then?|Tell me more|More]"), s.more(), s
    if kind == "title":
        return say("[What is the title of the story?|Give the story a title|What should we call this story?]"), f'The title of the story is "{s.title()}".', s
    if kind == "again":
        ask = say("[Another one, please|Another one|One more, please|Again!|Tell me another story|Another story, please|Tell me another one about {bareN}|Now another one]".replace("{bareN}", f"a {s.noun}"))
        new = Story(rng, hero=(s.noun, [s.habitat], s.move, KNOWN.get(s.noun, "   ?")[3]))
        return ask, new.text(), new
    if kind == "other":
        new = Story(rng)
        n = new.noun
        ask = tidy(rng.choice((f"Now one about a {n}", f"Now tell me a story about a {n}", f"And one about a {n}, please", f"Tell me one about a {n}",
                               f"What about a {n}?", f"Tell me a story about a {n}", f"Can you tell me one about a {n}?")))
        return ask, new.text(), new
    return (say("[Thank you|Thanks|Thank you!|That was nice|I liked it|That was a good story|Great story!|I love it]"),
            say("[You are welcome! Would you like another story?|I am glad that you liked it! Shall I tell you another one?|You are welcome! I had fun telling it.|Thank you! It was fun to tell a story about a {noun}.]"), s)


# ---- small talk and facts ----

LEGS = {"snake": 0, "fish": 0, "whale": 0, "dolphin": 0, "shark": 0, "snail": 0, "octopus": 0, "crab": 10, "spider": 8, "bee": 6, "ant": 6,
        "butterfly": 6, **{b: 2 for b in "owl hen rooster duck penguin eagle parrot bat kangaroo monkey".split()}}
NUMBERS = "no one two three four five six seven eight nine ten".split()


def fact_chat(rng):
    a, eats, lives, says, what = rng.choice(FACTS)
    kind = rng.choice(("eat", "eat", "live", "say", "what", "what", "all", "legs"))
    if kind == "eat":
        return rng.choice((f"What does a {a} eat?", f"What do {plural(a)} eat?", f"what does a {a} eat")), f"A {a} eats {eats}."
    if kind == "live":
        return rng.choice((f"Where does a {a} live?", f"Where do {plural(a)} live?")), f"A {a} lives {lives}."
    if kind == "say":
        return rng.choice((f"What sound does a {a} make?", f"What does a {a} say?", f"What noise does a {a} make?")), f"A {a} {says}."
    if kind == "legs":
        n = LEGS.get(a, 4)
        legs = "no legs" + (", but it has eight arms" if a == "octopus" else "") if n == 0 else f"{NUMBERS[n]} legs"
        return f"How many legs does a {a} have?", f"A {a} has {legs}."
    if kind == "what":
        return rng.choice((f"What is a {a}?", f"What's a {a}?", f"what is a {a}")), f"A {a} is {what}."
    return (rng.choice((f"Tell me about {plural(a)}", f"Tell me something about the {a}", f"What do you know about {plural(a)}?", f"Tell me a fact about {plural(a)}")),
            animal_facts(a, eats, lives, says, what))


def animal_facts(a, eats, lives, says, what):
    return f"A {a} is {what}. It lives {lives}. It eats {eats}, and it {says}."


def sum_chat(rng):
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    if rng.random() < 0.6:
        return rng.choice((f"What is {a} + {b}?", f"What is {a} plus {b}?", f"{a} + {b}", f"{a}+{b}", f"What is {a}+{b}?", f"How much is {a} and {b}?")), rng.choice((f"{a} + {b} is {a + b}.",) * 3 + (f"It is {a + b}.",))
    a, b = max(a, b), min(a, b)
    return rng.choice((f"What is {a} - {b}?", f"What is {a} minus {b}?", f"{a} - {b}")), f"{a} - {b} is {a - b}."


def list_chat(rng):
    n = rng.randint(2, 5)
    kind, pool = rng.choice((("animals", [c[0] for c in CHARACTERS[:60]]), ("animals", [f[0] for f in FACTS]),
                             ("names for a " + rng.choice(CHARACTERS)[0], HE + SHE),
                             ("colors", "red blue green yellow purple orange white black brown pink".split()),
                             ("fruits", "apple pear banana cherry plum orange lemon mango fig grape".split())))
    if "animals" in kind and rng.random() < 0.3:
        kind, pool = rng.choice((("farm animals", "cow pig sheep goat horse donkey hen duck".split()), ("sea animals", HABITATS["sea"][4]),
                                 ("birds", "owl robin sparrow eagle duck parrot penguin crow".split()), ("wild animals", "lion tiger bear wolf fox elephant".split())))
    chosen = rng.sample(pool, n)
    ask = rng.choice(("Name {n} {k}", "Give me {n} {k}", "List {n} {k}", "Tell me {n} {k}", "Can you name {n} {k}?")).format(n=rng.choice((NUMBERS[n], n)), k=kind)
    if rng.random() < 0.5:
        answer = "\n".join(f"{i}. {w[0].upper() + w[1:]}" for i, w in enumerate(chosen, 1))
    else:
        answer = ", ".join(chosen[:-1]) + " and " + chosen[-1] + "."
    return ask, answer


def poem(rng, noun):
    return tidy(expand("\n".join(rng.choice(POEMS)), {"noun": noun}, rng))


def poem_chat(rng):
    noun = somebody(rng)[0]
    return loosely(rng, rng.choice(("Write a poem about a ", "Tell me a poem about a ", "Write a short poem about a ", "Can you write a poem about a ", "A poem about a ")) + noun), poem(rng, noun)


def talk_chat(rng):
    """One short exchange and, where the model offers a story, sometimes the "yes" that takes it up."""
    kind = rng.choices(("chat", "fact", "sum", "list", "joke", "poem", "off", "capital"), (34, 22, 5, 6, 10, 6, 14, 3))[0]
    if kind == "fact":
        return [tuple(map(tidy, fact_chat(rng)))]
    if kind == "sum":
        return [sum_chat(rng)]
    if kind == "list":
        return [tuple(map(tidy, list_chat(rng)))]
    if kind == "poem":
        return [poem_chat(rng)]
    if kind == "joke":
        return [(loosely(rng, rng.choice(("Tell me a joke", "Tell me a joke", "Do you know a joke", "Make me laugh", "Can you tell me a joke", "A joke", "Tell me something funny", "Another joke", "Tell me another joke"))), rng.choice(JOKES))]
    if kind == "capital":
        country, city = rng.choice(CAPITALS)
        return [(rng.choice((f"What is the capital of {country}?", f"what is the capital of {country}", f"Capital of {country}?")), f"The capital of {country} is {city}.")]
    if kind == "off":
        s = Story(rng, hero=hero(rng.choice(CHARACTERS)))
        ask = expand(rng.choice(OFF_TOPIC), {"x": invent(rng), "noun": somebody(rng)[0], "n": str(rng.randint(3, 3000)), "name": person_name(rng, "h"),
                                               "topic": rng.choice(TOPICS)}, rng)
        out = [(loosely(rng, ask), tidy(expand(rng.choice(FALLBACK), {"noun": s.noun}, rng)))]
        if rng.random() < 0.35:
            out.append((rng.choice(("Yes", "Yes, please", "yes please", "OK", "Sure", "Yes!", "Please do", "ok")), s.text()))
        return out
    asks, answers = rng.choice(CHAT)
    s = Story(rng, hero=hero(rng.choice(CHARACTERS)))
    slots = {"noun": s.noun, "name": person_name(rng, rng.choice("hs"))}
    ask, answer = expand(asks, slots, rng), tidy(expand(answers, slots, rng))
    if rng.random() < 0.2:
        ask = ask.lower()
    out = [(ask + (rng.choice(("", "", ".", "!")) if ask[-1] not in "?!." else ""), answer)]
    if answer.endswith("?") and "story" in answer and rng.random() < 0.2:
        out.append((rng.choice(("Yes", "Yes, please", "yes please", "OK", "Sure", "Yes!", "yes")), s.text()))
    return out


# ---- documents ----

def chat(turns, system=None):
    out = BOS + (SYS + system + END if system else "")
    for user, answer in turns:
        out += USER + user + END + ASSISTANT + answer + END
    return out


def conversation(rng):
    system = rng.choice(SYSTEM) if rng.random() < 0.2 else None
    if rng.random() < 0.36:
        turns = talk_chat(rng)
        while rng.random() < 0.25:
            turns += talk_chat(rng)
        if rng.random() < 0.2:
            turns.append(story_chat(rng)[:2])
        return chat(turns, system)
    turns = talk_chat(rng) if rng.random() < 0.07 else []
    ask, answer, s = story_chat(rng)
    turns.append((ask, answer))
    # Few long conversations, for the far end of the context.
    more = 0.93 if rng.random() < 0.07 else 0.3
    while rng.random() < more and len(turns) < 14:
        if rng.random() < 0.12:
            turns += talk_chat(rng)[:1]
            break
        ask, answer, s = follow_up(rng, s)
        turns.append((ask, answer))
    return chat(turns, system)


def scene(rng):
    s = Story(rng)
    v = dict(s.v, **SCENE)
    for slot in ("where", "stuff", "how", "view", "who", "mood"):  # one or two of each, that come back
        v[slot] = "[" + "|".join(expand(SCENE[slot], v, rng) for _ in range(2 if slot in ("where", "how") else 1)) + "]"
    v["friendname"] = person_name(rng, rng.choice("hs"))
    if rng.random() < 0.3:
        v.update(P="I", he="I", him="me", his="my")
    parts = ["{first}"] + rng.sample(SCENE_NEXT, rng.randint(3, 9)) + ["{last}"]
    return "\n\n".join(tidy(expand(" ".join(p), v, rng)) for p in ([parts] if rng.random() < 0.8 else [parts[:4], parts[4:]]))


def plain(rng):
    kind = rng.choices(("story", "long", "short", "scene", "describe", "facts", "letter", "recipe", "poem"), (52, 8, 4, 20, 6, 3, 3, 2, 2))[0]
    if kind in ("story", "long", "short"):
        if rng.random() < 0.25:
            noun, gender = rng.choice((("boy", "h"), ("girl", "s")))
            s = Story(rng, hero=(noun, ["town", "farm", "beach", "forest", "meadow", "mountain", "castle"], "walk", gender))
        else:
            s = Story(rng, pair=rng.random() < 0.1)
        text = s.text({"story": "normal"}.get(kind, kind))
        if rng.random() < 0.2:
            text = s.title() + "\n\n" + text
        elif kind != "short" and rng.random() < 0.2:  # begin in the middle, so that any first sentence can be continued
            cuts = [m.end() for m in re.finditer(r"[.!?] (?=[A-Z])", text)]
            text = text[rng.choice(cuts[:-3]):] if len(cuts) > 4 else text
    elif kind == "facts":
        text = " ".join(tidy(animal_facts(*f)) for f in rng.sample(FACTS, rng.randint(1, 3)))
    elif kind == "poem":
        text = poem(rng, somebody(rng)[0])
    elif kind == "scene":
        text = scene(rng)
    else:
        s = Story(rng, named=True)
        s.v["friendname"] = person_name(rng, rng.choice("hs"))
        s.v["thing"] = s.thing()
        parts = rng.choice({"describe": DESCRIPTIONS, "letter": LETTERS, "recipe": RECIPES}[kind])
        text = s.say(parts)
    return BOS + text + END


def document(rng):
    return conversation(rng) if rng.random() < 0.58 else plain(rng)


def documents(seed, count):
    rng = random.Random(seed)
    for _ in range(count):
        yield document(rng)


if __name__ == "__main__":
    seed, count = (int(a) for a in (sys.argv[1:] + ["1", "20"][len(sys.argv) - 1:]))
    for d in documents(seed, count):
        print(d, end="\n-----\n")

"""The plots: each is a function that fixes what the story needs (a lost thing, a fear, a
wish ...) in `s.v` and returns the beats in order, with a moral, the clause by which a
request can ask for this plot, and a summary.

Templates: `[a|b]` is a choice, `{slot}` a value, `{^slot}` the same with a capital.
P is the hero ({he}/{him}/{his}), Q the friend ({qhe}/{qhim}/{qhis}, always of the other gender, so
that pronouns stay clear), R a third character. {aQ} and {aR} introduce somebody new.
"""
PLOTS = {}
SEA = {"sea"}


def plot(*, never=()):
    def add(f):
        PLOTS[f.__name__] = (f, set(never))
        return f
    return add


def tale(beats, moral, clause, title, short, qa=()):
    return dict(beats=beats, moral=moral, clause=clause, title=title, short=short, qa=list(qa))


@plot()
def lost(s):
    s.v["thing"] = s.thing()
    s.v["junk"] = "an empty shell" if s.habitat == "sea" else "[an old shoe|a dry leaf|a sleeping beetle]"
    end = s.pick([
        ("There it was! [The wind had carried it there in the night.|It had been there all the time.|It had fallen out of {his} bag the day before.]",
         "it was {spot3}"),
        ("There they found {aR} with the {thing}. \"[I found this yesterday|I thought that nobody wanted it]. Is it yours?\" asked {R}. \"[Yes, it is mine.|It is mine, but we can share it.]\" said {P}. {^R} gave it back at once.",
         "{R} had found it"),
        ("Under a big leaf something was shining. \"Here it is!\" cried {Q}. {^P} [laughed and clapped.|was so happy that {he} began to dance.]",
         "it was {spot3}"),
    ]) if s.habitat != "sea" else (
        "There it was! [The waves had carried it there in the night.|It was covered with sand, but it still looked beautiful.]", "it was {spot3}")
    return tale([
        "{P} had a {thing} [that {he} loved more than anything|that {his} [grandmother|grandfather|mother] had given {him}|that {he} had found long ago]. [{^he} took it everywhere.|{^he} never went anywhere without it.|Every night, {he} put it beside {his} bed.]",
        "[One morning, {P} woke up and the {thing} was gone.|{oneday}, {P} could not find the {thing} anywhere.|But {oneday}, the {thing} was gone.]",
        "\"[Oh no|Oh dear]! Where is my {thing}?\" [cried|said] {P}.",
        "{^he} looked {spot1}, but [it was not there|there was nothing]. {^he} looked {spot2}, but [it was not there either|all {he} found was {junk}]. [{^P} sat down and began to cry.|{^P} did not know what to do.|A big tear rolled down {his} face.]",
        "[Just then|Soon|After a while], {aQ} came by. \"[Why are you so sad|What is the matter]?\" asked {Q}. \"I have lost my {thing},\" said {P}.",
        "\"[Do not worry|Do not cry]. [Let us look together|I will help you|Two can look better than one],\" said {Q}.",
        "So they looked {spot3}. " + end[0],
        "\"Thank you[ so much|]!\" said {P}. \"[I could not have found it without you|You are a good friend].\" [That evening, they shared some {food} and told each other stories.|Then they played together until the sun went down.|]",
    ], "[a friend makes every search easier|it is good to ask for help|a good friend is worth more than any treasure]",
        "who lost {his} {thing}", "The Lost {Thing}",
        "{^P} lost {his} {thing} and looked for it everywhere. {^aQ} came and helped {him} to look, and " + end[1] + ". {^P} was very happy.",
        [("What did {p} lose?", "{^he} lost {his} {thing}."), ("Where was the {thing}?", "In the end, " + end[1] + ".")])


SKILLS = {  # skill: (needs, first try, second try, advice, success)
    "swim": ("walk hop", "{he} jumped into the water and went down like a stone", "{he} kicked so hard that {he} swallowed a lot of water", "Do not fight the water. Breathe slowly and kick gently", "{he} moved through the water as smoothly as a duck"),
    "dance": ("any", "{he} turned around too fast and fell on {his} nose", "{he} mixed up left and right and bumped into a rock", "Listen to the music first. Then let it carry you", "{he} turned and swayed like a leaf in the wind"),
    "sing": ("any", "only a funny squeak came out", "everyone covered their ears", "Take a deep breath and sing from your heart", "{his} voice was clear and sweet"),
    "whistle": ("walk hop fly crawl", "only air came out", "{he} made a sound like a leaky kettle", "Make a small round mouth and blow softly", "a clear, high note rang out"),
    "climb": ("walk", "{he} slipped and slid all the way down", "{he} got stuck halfway and had to be helped down", "Do not look down. Take one small step at a time", "{he} reached the very top and could see the whole world"),
    "paint": ("walk hop", "{he} spilled the paint over everything", "{his} picture looked like a big brown puddle", "Look closely first, and paint what you love", "{he} painted a sunset so beautiful that everyone came to see it"),
    "juggle": ("walk", "all the balls fell on {his} head", "one ball rolled down the hill and was never seen again", "Start with one ball. Add another when you are ready", "three balls flew through the air in a perfect circle"),
    "bake bread": ("walk", "{his} bread was as hard as a stone", "{he} forgot the salt and nobody could eat it", "Be patient. Good bread needs time to rise", "the bread was golden and soft and smelled wonderful"),
    "read": ("any", "the letters danced before {his} eyes", "{he} held the book upside down", "Learn one letter every day. Soon they will make words", "{he} read a whole story aloud from the first page to the last"),
    "play the flute": ("walk", "the flute made a noise like an angry goose", "{he} blew so hard that {he} got dizzy", "Play softly, one note after another", "{he} played a tune so lovely that even the wind stopped to listen"),
    "fly": ("fly", "{he} flapped and flapped and landed in a bush", "{he} flew straight into a tree", "Do not fight the wind. Let it lift you", "{he} rose high into the sky and made a big circle over everyone"),
    "jump over the waves": ("swim", "{he} fell back on {his} belly with a loud splash", "{he} bumped into a wave and turned upside down", "Go deep first, then swim up as fast as you can", "{he} flew over the waves in a silver arc"),
    "blow big bubbles": ("swim", "the bubbles were as small as grains of sand", "{he} coughed and the bubbles went up {his} nose", "Blow slowly and think of the moon", "{he} blew a bubble as big as a whale"),
}


@plot()
def learn(s):
    skill = s.pick([k for k, v in SKILLS.items() if v[0] == "any" or s.move in v[0].split()])
    _, one, two, tip, win = SKILLS[skill]
    s.v["skill"] = skill
    return tale([
        "[More than anything, {P} wanted to learn to {skill}.|{^P} had one big dream: {he} wanted to {skill}.|There was one thing that {P} could not do. {^he} could not {skill}.] [{^he} thought about it every day.|{^he} even dreamed about it at night.|]",
        "{oneday}, {P} decided to try. But " + one + ". [\"Ouch!\" said {P}.|\"Oh well,\" said {P}, \"I will try again.\"|Some of the others laughed, and {P} felt very small.]",
        "The next day, {he} tried again, but " + two + ". [{^P} was very sad.|\"I will never learn it,\" {he} said.|\"Maybe I should give up,\" said {P}.]",
        "{^aQ} had been watching. \"[Nobody can do it the first time|Do not give up|I fell down a hundred times before I learned it],\" said {Q}. \"" + tip + ".\"",
        "[So {P} practised every day.|{^P} practised in the morning and {he} practised in the evening.|Day after day, {P} tried again, and {Q} helped {him}.] [Some days were hard, but {he} did not stop.|Little by little, it became easier.|]",
        "[Then, one day, it worked|At last, it happened|And one fine day, everything went right]: " + win + "! \"[You did it|I knew that you could do it]!\" [shouted|cried] {Q}.",
        "[Everyone cheered, and {P} [smiled from ear to ear|was very proud].|{^P} was so happy that {he} hugged {Q}.|Now everyone asked {P} to teach them, too.]",
    ], "[you can learn anything if you never give up|every master was once a beginner|practice makes hard things easy]",
        "who wanted to {skill}", "The {Noun} Who Wanted to {Skill}",
        "{^P} wanted to learn to {skill}, but at first it went wrong. {^aQ} told {him} not to give up. {^P} practised every day, and in the end {he} could do it.",
        [("What did {p} want to learn?", "{^he} wanted to learn to {skill}."), ("Did {p} give up?", "No, {he} practised every day until {he} could do it.")])


@plot()
def share(s):
    return tale([
        "{oneday}, {P} found [a big basket full of|a whole heap of] {food} {spot1}.",
        "\"[These are all mine|I will keep them all for myself],\" [said {P}|thought {P}]. {^he} [carried|took] them home and [hid them under {his} bed|closed the door].",
        "Soon {aQ} came to the door. \"[I am so hungry|I have not eaten all day]. [May I have|Could you give me] some {food}?\" asked {Q}. \"No,\" said {P}, \"I only have enough for myself.\" {^Q} [went away sadly|sighed and went away].",
        "{^P} ate and ate until {his} tummy hurt. [The {food} did not taste so good anymore.|It was very quiet in {his} home.] [{^he} had a lot of {food}, but {he} had nobody to laugh with.|{^he} felt full, but {he} did not feel happy.]",
        "[Then {he} thought of {Q}, who was hungry and alone.|\"{^Q} must be very hungry,\" thought {P}.] [{^he} felt sorry.|{^he} was ashamed.]",
        "So {he} packed all the {food} into a bag and {ran} to find {Q}. \"I am sorry,\" said {P}. \"[Please eat with me|Please share these with me].\" {^Q} [smiled|gave {him} a big smile].",
        "They sat {spot2} and ate together. [They talked and laughed until the stars came out.|It was the best meal that {P} had ever had.|Now the {food} tasted sweeter than ever.]",
    ], "[food tastes best when it is shared|sharing makes everyone happy|a shared meal is twice as sweet]",
        "who did not want to share", "The {Noun} Who Learned to Share",
        "{^P} found many {food} and wanted to keep them all. {^aQ} was hungry, but {P} sent {qhim} away. Then {P} felt sorry, and they ate the {food} together.",
        [("What did {p} find?", "{^he} found a lot of {food}."), ("Why was {p} sorry?", "{^he} was sorry because {he} had sent {Q} away hungry.")])


FEARS = {  # fear: (never, how it shows, how the friend got into trouble, how the hero helped)
    "the dark": ((), "When the sun went down, {he} hid under {his} blanket", "{^Q} had gone into a dark cave and could not find the way out", "{^he} took a deep breath and went into the dark, one step after another, and called {qhis} name until {he} found {qhim}"),
    "loud noises": ((), "When there was a bang or a crash, {he} covered {his} ears and {ran} away", "A heap of stones came down with a terrible noise, and {Q} was caught behind it", "The stones were still rumbling, but {he} moved them away one by one until {Q} was free"),
    "thunder": (SEA | {"space", "house"}, "When there was thunder, {he} hid under a table and shook", "A storm came, and {Q} was still outside with a hurt foot", "The thunder rolled, but {he} {ran} out into the rain and brought {qhim} home"),
    "high places": (SEA | {"space"}, "{^he} would not even stand on a chair", "{^Q} was stuck on a high wall and called for help", "{^he} did not look down. Step by step {he} climbed up, and then {he} helped {qhim} down"),
    "deep water": (SEA | {"space", "house", "pond", "desert"}, "{^he} never went near the river", "{^Q} fell into the river and could not get out", "{^he} grabbed a long branch, stepped into the cold water, and pulled {qhim} out"),
    "being alone": ((), "{^he} never went anywhere alone", "{^Q} was ill and needed medicine from the other side of the hill", "{^he} went all the way alone. {^he} sang a song to keep {his} courage, and {he} brought the medicine home"),
    "big waves": ({h for h in ("forest meadow farm jungle savanna desert snow pond mountain town castle house space beach".split())}, "When the sea was rough, {he} hid in a small hole", "A big wave carried {Q} away", "{^he} closed {his} eyes for a moment, then {he} dived through the wave and pulled {qhim} back"),
}


@plot()
def afraid(s):
    fears = {k: v for k, v in FEARS.items() if s.habitat not in v[0]}
    if s.move in ("swim", "fly"):
        fears.pop("high places", 0), fears.pop("deep water", 0)
    fear = s.pick(list(fears))
    _, shows, trouble, saved = fears[fear]
    s.v["fear"] = fear
    return tale([
        "{^P} had a secret. {^he} was afraid of {fear}. " + shows + ". [The others sometimes laughed at {him}.|{^he} did not want anyone to know.|]",
        s.best(),
        "{oneday}, something [terrible|bad] happened. " + trouble + ". \"Help! Help!\" cried {Q}.",
        "{^P} [heard it and began to shake|was so afraid that {his} knees shook]. [There was nobody else to help.|Everyone else was far away.] \"[I am scared, but my friend needs me|If I do not go, nobody will],\" {he} [said|thought].",
        saved + ".",
        "\"You saved me! [You are so brave|You are the bravest friend in the world],\" said {Q}. \"[I was afraid all the time|I was very scared],\" said {P}. \"[That is what being brave means|You were afraid, but you did it anyway. That is what brave means],\" said {Q}.",
        "[After that, {P} was not so afraid of {fear} anymore.|From then on, nobody laughed at {P} again.|That night, {P} slept very well.]",
    ], "[being brave means being afraid and doing it anyway|love is stronger than fear|you are braver than you think]",
        "who was afraid of {fear}", "The {Noun} Who Was Afraid",
        "{^P} was afraid of {fear}. " + trouble + ". {^P} was scared, but {he} went to help and saved {his} friend.",
        [("What was {p} afraid of?", "{^he} was afraid of {fear}."), ("Who did {p} save?", "{^he} saved {his} friend {Q}.")])


@plot()
def lonely(s):
    return tale([
        "{^P} was new there and did not know anyone. [Every day, {he} watched the others play.|{^he} ate alone and {he} played alone.] [\"I wish I had a friend,\" {he} said.|{^he} was too shy to say hello.]",
        "{oneday}, {P} [tried to play with the others|asked the others if {he} could play], but they [were too busy|did not hear {his} small voice]. So {he} went and sat {spot1}.",
        "There {he} heard somebody [crying|sighing]. It was {aQ}. \"What is wrong?\" asked {P}. \"[I have nobody to play with|Nobody wants to be my friend],\" said {Q}.",
        "\"[Me too|I have no friends either],\" said {P}. They looked at each other, and then they both began to laugh. \"[Shall we be friends|Would you like to play with me]?\" asked {P}. \"[Yes, please|I would love that]!\" said {Q}.",
        "They [played hide and seek|made up a new game|built a tower of stones] {spot2}. [They laughed so loudly that the others came to look.|They had so much fun that the others came to see.] \"[May we play, too|That looks like fun. May we join you]?\" they asked. \"Of course!\" said {P} and {Q}.",
        "[Soon everyone was playing together.|That evening, {P} went home with a big smile.] [{^P} was never lonely again.|Now {P} had more friends than {he} could count.]",
    ], "[a friend is often closer than you think|saying hello can be the start of a friendship|the best way to find a friend is to be one]",
        "who had no friends", "{^P} Finds a Friend",
        "{^P} was lonely because {he} was new. Then {he} met {aQ}, who was lonely, too. They played together, and soon everyone wanted to be their friend.",
        [("Why was {p} sad?", "{^he} was sad because {he} had no friends."), ("Who became {his} friend?", "{^Q} became {his} friend.")])


@plot()
def rescue(s):
    trap = s.pick(["stuck in some seaweed", "caught in an old net", "stuck under a stone"] if s.habitat == "sea" else
                  ["caught in an old net", "stuck under a heavy branch", "stuck in a hole", "trapped under a stone"])
    s.v["trap"] = trap
    s.v["trouble"] = "[got lost in a thick fog|got stuck between two rocks" + ("]" if s.move in ("fly", "swim") else "|fell into a deep hole]")
    return tale([
        "{oneday}, {P} was {walking} [home|along] when {he} heard a voice. \"Help! Help!\" [it cried|said the voice].",
        "{^P} looked {spot1} and found {aQ}. {^Q} was {trap} and could not move. \"[Please help me!|Can you help me?]\" said {Q}.",
        "\"[Of course|Do not be afraid. I will help you],\" said {P}. {^he} pulled and pulled. [It was hard work, but {he} did not stop.|It took a long time.] At last, {Q} was free.",
        "\"Thank you! One day, I will help you, too,\" said {Q}. [{^P} smiled. \"I was glad to help,\" {he} said.|\"You do not owe me anything,\" said {P}.]",
        "[A few weeks later|Not long after that|One month later], {P} {trouble} and could not get home. {^he} called and called, but nobody came.",
        "[Then {he} heard a voice that {he} knew.|Suddenly somebody called {his} name.] It was {Q}! \"I heard you calling,\" said {Q}. \"[Hold on|Wait], I will [get help|bring my friends].\" {^Q} came back with many friends, and together they [brought|took] {P} safely home.",
        "\"[Now you have saved me|You kept your promise],\" said {P}. {^Q} smiled. \"[That is what friends are for|You helped me, so I helped you],\" said {Q}.",
    ], "[a kind deed is never forgotten|helping others makes friends|kindness always comes back to you]",
        "who helped a friend", "The Kind {Noun}",
        "{^P} found {aQ}, who was {trap}, and set {qhim} free. Later, {P} was in trouble, and {Q} came and saved {him}.",
        [("Who did {p} help?", "{^he} helped {Q}, who was {trap}."), ("Who saved {p}?", "{^Q} saved {him}.")])


@plot()
def contest(s):
    kind = s.pick(["race", "race", "singing contest"] + ([] if s.move in ("fly", "swim", "roll", "crawl") else ["baking contest", "painting contest"]))
    s.v["kind"] = kind
    if kind == "race":
        middle = "[Ready, steady, go! {^aQ} was the fastest of all and was soon far ahead.|The race began, and {aQ} took the lead.] \"[Nobody can beat me|I will win, as always]!\" [shouted|called] {Q}."
        turn = "[Halfway along the path|Near the end of the race], {P} saw {aR}, who had fallen down and was crying. [The others just {ran} by.|Nobody else stopped.] {^P} wanted to win, but {he} stopped and helped {R} to get up."
        result = "Of course, {P} came in last. {^Q} came in first."
    else:
        middle = "{^aQ} wanted to win, too. \"[Nobody is better than me|I always win],\" said {Q}."
        turn = "[Just before it was {his} turn|On the big day], {P} saw {aR}, who was crying. \"I am so nervous that I have forgotten everything,\" said {R}. {^P} did not have much time, but {he} sat down and helped {R} until {R} could smile again."
        result = "In the end, {Q} won the first prize."
    return tale([
        "{oneday}, there was a big {kind}. [Everyone wanted to take part.|The prize was a golden cup.] {^P} [had practised for weeks|wanted to win so much|was very excited].",
        middle, turn,
        result + " But then the [judge|old judge] stood up and said, \"There is another prize today. It is for the kindest heart, and it goes to {P}!\"",
        "Everyone clapped and cheered. [Even {Q} came and said, \"You are the real winner.\"|{^Q} was quiet for a moment. Then {qhe} said, \"I wish I had stopped, too.\"] [{^P} gave {R} half of the prize.|{^P} shared the prize with everyone.|{^P} blushed and smiled.]",
    ], "[being kind is better than winning|there are more important things than winning|a kind heart is the best prize]",
        "who took part in a {kind}", "The Big {Kind}",
        "{^P} took part in a {kind}. {^he} stopped to help {aR} and did not win, but {he} got a prize for the kindest heart.",
        [("Who won the {kind}?", "{^Q} won, but {P} got the prize for the kindest heart."), ("Why did {p} stop?", "{^he} stopped to help {R}.")])


@plot()
def truth(s):
    s.v["pot"] = s.pick(["blue vase", "best cup", "glass lamp", "favorite bowl", "little clock"] + ([] if s.habitat == "sea" else ["flower pot", "window"]))
    s.v["crash"] = "The window broke" if s.v["pot"] == "window" else "The {pot} fell down and broke"
    return tale([
        s.best() + " {oneday}, {P} was playing in the house of {Q}. {^he} [turned around too fast|was not careful|jumped too high], and crash! {^crash}.",
        "[Nobody had seen it.|{^Q} was not at home.] {^P} was afraid. {^he} [hid the pieces {spot1}|covered the pieces with a cloth] and went home.",
        "[The next day|Later], {Q} was very sad. \"[Who broke my {pot}|Do you know who broke my {pot}]?\" asked {Q}. \"I do not know,\" said {P}. [\"Maybe it was the wind.\"|\"It was not me.\"]",
        "That night, {P} could not sleep. [There was a heavy feeling in {his} chest.|The lie felt like a stone in {his} tummy.] \"I must tell the truth,\" {he} thought.",
        "In the morning, {he} {ran} to {Q}. \"It was me. I broke your {pot}, and then I told a lie. I am so sorry,\" said {P}, and {he} began to cry.",
        "{^Q} was quiet for a moment. Then {qhe} gave {him} a hug. \"[Thank you for telling me the truth|I am glad that you told me]. A {pot} can be mended, [but a friend is hard to find|and so can a friendship],\" said {Q}.",
        "Together they mended the {pot}. [It had a few cracks, but {Q} liked it even more than before.|It was not perfect, but that did not matter.] [{^P} felt as light as a feather.|]",
    ], "[telling the truth makes the heart light|a true friend forgives you when you are honest|it is always best to tell the truth]",
        "who told a lie", "The Broken {Pot}",
        "{^P} broke the {pot} of {his} friend {Q} and told a lie about it. {^he} felt so bad that {he} told the truth the next day. {^Q} forgave {him}, and together they mended the {pot}.",
        [("What did {p} break?", "{^he} broke the {pot} of {his} friend {Q}."), ("Was {Q} angry?", "No, {Q} forgave {him} because {he} told the truth.")])


@plot()
def build(s):
    thing, first = s.pick([("house of shells", "sand")] if s.habitat == "sea" else
                          [("snow house", "loose snow")] if s.habitat == "snow" else
                          [("house", "straw"), ("bridge", "thin sticks"), ("boat", "paper"), ("tree house", "old boards"), ("playground", "thin sticks")]
                          if s.habitat not in ("space", "house") else [("tower", "thin sticks"), ("little house", "paper")])
    s.v["thing"] = thing
    storm = "[In the night, a strong wind came and blew it all down.|But then a storm came, and everything fell down.]" if s.habitat not in ("sea", "space", "house") else "[In the night, it all fell down with a loud crash.|But the next day, it fell down.]"
    return tale([
        "{^P} wanted to build a {thing}. \"[I can do it alone|I do not need any help],\" {he} said.",
        "{oneday}, {P} started to work. {^he} used " + first + " because it was quick and easy. [By evening, it was done.|It was done before lunch.] \"Look how fast I am!\" said {P}.",
        storm + " {^P} looked at the mess and [sighed|wanted to cry].",
        "Then {aQ} came by with {aR}. \"[We can help you|Let us build it together],\" said {Q}. \"[I can carry the heavy things|I know how to make strong walls],\" said {Q}. \"And I can [tie the knots|plan everything],\" said {R}.",
        "[This time, they worked slowly and carefully.|They worked all day long.] {^P} [brought strong stones|looked for the best materials], {Q} built, and {R} [measured|checked] everything. [They sang while they worked.|When they were tired, they ate some {food}.]",
        "[After three days|At last], the {thing} was ready. It was strong and beautiful. [That night there was a terrible noise outside, but the {thing} did not fall.|Nothing could knock it down.]",
        "\"[It is the best {thing} in the world|We did it together],\" said {P}. [They had a big party to celebrate.|And all three of them danced for joy.]",
    ], "[together we can do what we cannot do alone|good work takes time and good friends|many helpers make hard work easy]",
        "who built a {thing}", "The {Thing}",
        "{^P} built a {thing} alone, but it fell down. Then {aQ} and {aR} came to help. Together they built a strong {thing}.",
        [("What did {p} build?", "{^he} built a {thing}."), ("Who helped {p}?", "{^Q} and {R} helped {him}.")])


@plot()
def birthday(s):
    return tale([
        "It was the birthday of {P}. {^he} woke up early and [smiled|jumped out of bed]. \"Today will be a wonderful day,\" {he} said.",
        s.best() + " {^P} {ran} to {Q} first. \"[Do you know what day it is|Is today a special day]?\" asked {P}. \"[I am sorry, I am very busy|It is just a normal day],\" said {Q}, and {qhe} closed the door.",
        "Then {P} met {aR}. But {R} [hurried away, too|had no time, either]. [Nobody said \"Happy birthday.\"|Nobody seemed to remember.]",
        "{^P} went and sat {spot1}. \"Everybody has forgotten me,\" {he} said, and a tear rolled down {his} face.",
        "[When it got dark|In the evening], {P} {walked} home. {^he} went inside, and suddenly there were lights everywhere! \"Surprise!\" shouted all {his} friends.",
        "There was a big cake with {food2} on it, and there was music and dancing. \"[We were busy all day because we were getting your party ready|We wanted to surprise you],\" said {Q}. \"[How could we ever forget you|How could we forget your birthday]?\"",
        "{^Q} gave {him} a {thing}. [It was the best birthday ever.|{^P} laughed and cried at the same time.|{^P} had never been so happy.]",
    ], "[good friends never forget you|a surprise can hide behind a sad day|friends are the best present]",
        "who had a birthday", "The Birthday Surprise",
        "It was the birthday of {P}, but everybody seemed to have forgotten it. {^he} was very sad. In the evening, {Q} and all {his} friends had a surprise party for {him}.",
        [("What did {Q} give to {p}?", "{^Q} gave {him} a {thing}."), ("Did the friends forget the birthday?", "No, they had planned a surprise party.")])


@plot()
def mystery(s):
    noise, answer, after = s.pick([
        ("a soft humming", "{aR} who was practising a song for the summer feast", "{^R} was shy at first, but then {R} sang for them"),
        ("a strange tapping", "{aR} who was building a tiny house", "{^P} and {Q} helped {R} to finish the house"),
        ("a sad little cry", "{aR} who could not find the way home", "{^P} and {Q} took {R} home that very night"),
        ("a loud snoring", "{aR} who was fast asleep with a big smile", "They put a blanket over {R} and went home very quietly"),
        ("a funny squeaking", "{aR} with a cart that needed oil", "{^P} fetched some oil, and {R} gave them each some {food}"),
        ("a soft, strange glow", "{aR} with a tiny lantern, reading a book", "{^R} read the story aloud to them until they were sleepy"),
    ])
    see = "saw" if "glow" in noise else "heard"
    return tale([
        "[One night|Late one evening|One dark night], {P} was in bed when {he} " + see + " " + noise + ". [It came from far away.|It came from somewhere {spot1}.] \"What can that be?\" {he} [asked|thought].",
        "{^P} {ran} to {his} friend, {aQ}. \"[Did you notice it, too|Do you know what it is]?\" asked {P}. \"[Maybe it is a monster|It must be a ghost],\" whispered {Q}. \"[There is only one way to find out|Let us go and look],\" said {P}.",
        "They took a lantern and went out into the night. They looked {spot1}. Nothing. They looked {spot2}. [There was only an old bucket.|Nothing there, either.]",
        "Then they came closer to the place {spot3}. [Their hearts beat fast.|{^Q} held on to {P} tightly.] {^P} lifted the lantern, and there was " + answer + "!",
        "[{^P} and {Q} looked at each other and laughed.|\"So you are our monster!\" said {P}, and they all laughed.] " + after + ".",
        "[After that night, the three of them were good friends.|From then on, nobody was afraid of the night anymore.]",
    ], "[things are often less scary when you look at them closely|it is better to look than to be afraid|a mystery can turn into a friend]",
        "who [solved a mystery|heard a strange noise]" if see == "heard" else "who solved a mystery", "The Strange [Night|Mystery]",
        "One night, {P} " + see + " " + noise + ". {^he} went to look with {his} friend {Q}. It was only " + answer + ", and they all became friends.",
        [("What did {p} find?", "{^he} found " + answer + ".")])


@plot(never=("sea", "space", "snow"))
def seed(s):
    s.v["plant"] = s.pick(["sunflower", "apple tree", "pumpkin", "rose bush", "cherry tree", "bean plant"])
    return tale([
        "{oneday}, {aQ} gave {P} a tiny seed. \"[Plant it and wait|Take good care of it],\" said {Q}. \"One day, it will be a big surprise.\"",
        "{^P} planted the seed {spot1} and gave it some water. Then {he} sat down and waited. [After one hour, nothing had happened.|But nothing happened.]",
        "The next morning, {he} looked again. Still nothing. \"[Grow, little seed, grow|Please grow]!\" said {P}. {^he} [sang to it|told it a story|danced around it], but the ground stayed bare.",
        "\"[My seed is broken|It will never grow],\" {P} said to {Q}. {^Q} smiled. \"[Good things take time|A seed does its best work when nobody is looking]. Give it water and sun, and be patient.\"",
        "So {P} watered the seed every day. [Days went by, and then weeks.|The rain came, and then the sun.] One morning, there was a tiny green leaf! {^P} [jumped for joy|could hardly believe {his} eyes].",
        "The little plant grew and grew. By the end of summer, it was a beautiful {plant}. [Everyone came to admire it.|{^P} invited all {his} friends to see it.]",
        "\"Now I know why I had to wait,\" said {P}. [And the next spring, {he} gave a tiny seed to a new friend.|{^he} kept some seeds for the next year.|]",
    ], "[good things need time|patience brings the best rewards|you cannot hurry the things that grow]",
        "who planted a seed", "The Tiny Seed",
        "{^aQ} gave {P} a tiny seed. {^P} wanted it to grow at once, but {he} had to learn to wait. In the end, it became a beautiful {plant}.",
        [("What did the seed become?", "It became a beautiful {plant}."), ("Who gave {p} the seed?", "{^Q} gave {him} the seed.")])


RIDDLES = [("What has hands but cannot clap", "A clock"), ("What gets wetter the more it dries", "A towel"),
           ("What has teeth but cannot bite", "A comb"), ("What has a neck but no head", "A bottle"),
           ("What goes up but never comes down", "Your age"), ("What has one eye but cannot see", "A needle"),
           ("What is full of holes but still holds water", "A sponge"), ("What can you catch but not throw", "A cold"),
           ("What has many keys but opens no door", "A piano"), ("What runs all day but never gets tired", "A river"),
           ("What has legs but cannot walk", "A table"), ("What belongs to you but others use it more", "Your name"),
           ("What must be broken before you can use it", "An egg"), ("What has words but never speaks", "A book")]


@plot()
def journey(s):
    q, a = s.pick(RIDDLES)
    goal, truth = s.pick([("a golden treasure", "a chest full of old books with wonderful stories"), ("the end of the rainbow", "a garden full of flowers in every color"),
                          ("the wisest creature in the world", "a round mirror, and in it {he} saw {his} own face"), ("a magic stone", "a small grey stone with the words: You were strong enough all along"),
                          ("a hidden treasure", "a table with two chairs and a cake for two good friends")])
    if s.habitat == "sea" and "rainbow" in goal:
        goal, truth = "a sunken treasure", "a chest full of pearls that glowed like little moons"
    s.v["goal"] = goal
    return tale([
        "{oneday}, {P} found an old map {spot1}. It showed the way to {goal}. \"[I will go and find it|What an adventure]!\" said {P}.",
        "{^he} packed some {food} and set out. On the way, {he} met {aQ}. [\"May I come with you?\" asked {Q}. \"Of course! Two are better than one,\" said {P}.|\"Where are you going?\" asked {Q}. \"I am looking for {goal}. Come with me,\" said {P}.]",
        ("First they came to a [wide|deep|wild] river. [There was no bridge, but they found a fallen tree and crossed on it.|They made a raft from branches and crossed slowly.]" if s.habitat not in ("sea", "space", "house", "desert") else
         "First they came to a [very dark place|narrow gap]. [They held on to each other and went on.|It was hard to get through, but they helped each other.]"),
        "Then they came to a gate. {^aR} sat in front of it. \"Nobody may pass without the answer to my riddle,\" said {R}. \"" + q + "?\" They thought for a long time. [Then {P} smiled.|Then {P} had an idea.] \"" + a + "!\" {he} said. \"That is right,\" said {R}, and the gate opened.",
        "[At last|When the sun went down], they came to the place on the map. There they found " + truth + ".",
        "[{^P} was surprised at first. Then {he} smiled.|They looked at each other and laughed.] \"[The best part was going there with you|The journey was the real treasure],\" {he} said to {Q}. [Together they went home and told everyone about it.|]",
    ], "[the way is as important as the goal|a friend is the best treasure|adventures are best when they are shared]",
        "who went to look for {goal}", "The [Old Map|Long Journey]",
        "{^P} found an old map and went to look for {goal} with {aQ}. They had to solve a riddle on the way. In the end, they found " + truth + ", and they were good friends.",
        [("What did {p} find in the end?", "{^he} found " + truth + "."), ("What was the answer to the riddle?", "The answer was: " + a.lower() + "." if a != "Your age" and a != "Your name" else "The answer was: your " + a[5:] + ".")])


@plot(never=("sea", "space", "house", "beach", "snow"))
def spring(s):
    return tale([
        "[One hot summer|One year], it did not rain for many weeks. [The stream became smaller and smaller, and then it was dry.|One morning, there was no more water.] Everyone was thirsty, and nobody knew what to do.",
        "\"[I will find out where the water has gone|Somebody must do something],\" said {P}. {^he} {walked} along the dry stream, up and up, all day long.",
        "At the top, {he} found a big stone. It had rolled over the spring, and the water could not get out. {^P} pushed and pushed, but the stone did not move.",
        "Then {aQ} came. {^Q} pushed, too, but the stone was too heavy. \"[We need everyone|We are not strong enough alone],\" said {P}. So {he} called all the others.",
        "[They all came, the big ones and the small ones.|Some of them had never worked together before.] Even {aR} came to help. \"One, two, three, push!\" shouted {P}. The stone began to shake. \"Again!\" shouted {P}. And then the stone rolled away.",
        "[Clear, cool water came out of the ground.|The water jumped out and danced down the hill.] Everyone drank and splashed and laughed. \"[Hurrah for {P}|Three cheers for {P}]!\" they shouted. \"[We all did it|It was all of us together],\" said {P}.",
    ], "[together we are strong|nobody is too small to help|one good idea can bring everyone together]",
        "who found water", "The Dry Stream",
        "There was no more water, so {P} went to find out why. A big stone lay over the spring. {^he} called everyone, and together they pushed it away.",
        [("Why was there no water?", "A big stone had rolled over the spring."), ("How did they move the stone?", "They all pushed together.")])


WISHES = [("to be as big as a mountain", "{^he} grew and grew. But now {he} did not fit into {his} home, and all {his} friends were afraid of {him}"),
          ("for all the {food} in the world", "There were {food} everywhere, even in {his} bed. {^he} ate until {his} tummy hurt, and soon {he} could not look at {food} anymore"),
          ("to be invisible", "Nobody could see {him}. At first it was funny. But nobody said hello to {him}, and nobody played with {him}"),
          ("for a mountain of gold", "The gold shone brightly. But {he} could not eat it, and {he} had to watch it day and night"),
          ("to never have to sleep", "{^he} was awake all night while everyone else was asleep. The nights were long, dark, and boring"),
          ("to be the only one in the world", "Suddenly it was very quiet. {^he} could do anything {he} wanted, but there was nobody to do it with"),
          ("to be the fastest in the world", "{^he} was so fast that nobody could go with {him}. Everything went by in a blur, and {he} was always alone")]


@plot()
def wish(s):
    want, got = s.pick(WISHES)
    s.v["wish"] = want
    giver = s.pick(["a golden fish", "an old shell with a soft voice"] if s.habitat == "sea" else ["a golden bird", "a tiny fairy", "a little star", "an old lamp with a soft voice"])
    return tale([
        "{oneday}, {P} found " + giver + " {spot1}. \"[You have found me, so you may have one wish|I will give you one wish]. [Think well before you speak|Choose wisely],\" it said.",
        "{^P} did not think for long. \"I wish {wish}!\" {he} said. There was a flash of light.",
        got + ".",
        s.best() + " \"[You look sad|What is wrong]. Did your wish not come true?\" asked {Q}. \"[It came true, but it did not make me happy|I have what I wanted, and now I do not want it],\" said {P}." if "only one" not in want and "invisible" not in want else
        "\"I miss my friends,\" said {P}. \"[This was a foolish wish|I did not think well].\"",
        "So {P} went back {spot1}. \"Please take my wish away,\" {he} said. \"I only want [my old life and my friends|things to be as they were].\" [\"That is a much better wish.\"|\"Now you have chosen wisely.\"] There was another flash of light, and everything was as before.",
        "{^P} {ran} home and hugged everyone {he} met. [\"I have everything I need,\" {he} said.|{^he} had never been so glad to be just {himself}.]",
    ], "[be careful what you wish for|the best things are the ones you already have|it is good to be yourself]",
        "who made a wish", "The {Noun} and the Wish",
        "{^P} found " + giver + " and wished " + want + ". But the wish did not make {him} happy, so {he} wished everything back. {^he} was glad to be just {himself}.",
        [("What did {p} wish for?", "{^he} wished " + want + "."), ("Was {p} happy with the wish?", "No, {he} wanted everything to be as before.")])


@plot()
def sleepless(s):
    s.v["advice"] = "I count the waves" if s.habitat == "sea" else "[I drink a cup of warm milk|I count the stars]"
    return tale([
        "[It was late at night|The moon was high in the sky], but {P} could not sleep. {^he} turned to the left and {he} turned to the right. [{^he} counted to one hundred.|{^he} closed {his} eyes very tightly.] It did not help.",
        "So {he} got up and went to {aQ}. \"[What do you do when you cannot sleep|How do you fall asleep|I cannot sleep. What can I do]?\" asked {P}. \"{advice},\" said {Q}. {^P} tried it, but {he} was still awake.",
        "Then {he} went to {aR}. \"[I lie on my other side|I think of something nice],\" said {R}. {^P} tried it, but {he} was more awake than ever.",
        "{^P} sat {spot1} and sighed. {^Q} came and sat next to {him}. \"What are you thinking about?\" asked {Q}. \"[I am worried about tomorrow|I was angry today, and I did not say sorry|I miss my [mother|father|grandmother]],\" said {P}.",
        "{^Q} listened and nodded. They talked for a long time. [\"Everything looks better in the morning,\" said {Q}.|\"Thank you for telling me,\" said {Q}.] Then {qhe} began to sing a soft little song about the moon.",
        "Before the song was over, {P} was fast asleep. [{^Q} covered {him} with a blanket and tiptoed away.|The moon smiled, and everything was quiet.|{^he} slept until the sun came up.]",
    ], "[a good talk can bring a good sleep|sharing your worries makes them smaller|it helps to tell a friend what is on your mind]",
        "who could not sleep", "The {Noun} Who Could Not Sleep",
        "{^P} could not sleep and asked {his} friends what to do. Nothing helped, until {he} told {Q} about {his} worries. Then {Q} sang a song, and {P} fell asleep.",
        [("Why did {p} visit {Q}?", "{^he} visited {Q} because {he} could not sleep."), ("How did {p} fall asleep?", "{^Q} sang a soft song for {him}.")])


@plot()
def gift(s):
    return tale([
        s.best() + " Soon it would be the birthday of {Q}, and {P} wanted to give {qhim} something special. [But {he} had no money.|But what could it be?]",
        "{oneday}, {P} asked {aR} for advice. \"[Give a big gift|Give something that shines],\" said {R}. {^P} looked {spot1} and found [nothing at all|only a few old stones]. {^he} looked {spot2}, but [there was nothing good|nothing was good enough].",
        "{^P} sat down and thought about {Q}. {^he} thought about [all the games they had played|all the times they had laughed together]. Then {he} had an idea.",
        "{^he} worked [all night|for three days]. {^he} [made a little book|painted a big picture] of all their adventures. On the last page, {he} wrote: \"For my best friend.\"",
        "On the birthday, there were many gifts. [Some were big and some shone like gold.|Some were very grand.] {^P}'s gift looked very small, and {he} felt shy. \"[It is only a little thing|I made it myself],\" {he} said.",
        "{^Q} looked at it for a long time. Then {qhis} eyes filled with happy tears. \"[This is the best gift of all|Nobody ever gave me anything so beautiful], because you made it with love,\" said {Q}.",
    ], "[the best gifts come from the heart|a gift made with love is worth more than gold|a gift does not have to be big]",
        "who made a gift", "The Best Gift",
        "{^P} wanted to give {his} friend {Q} something special, but {he} had no money. So {he} made a gift {himself}. {^Q} liked it best of all because it was made with love.",
        [("What did {p} do for {Q}?", "{^he} made a gift with love."), ("Why did {Q} like the gift?", "Because {P} had made it with love.")])


@plot(never=("sea", "space", "house", "jungle", "savanna", "desert", "beach", "snow"))
def winter(s):
    return tale([
        "It was a warm autumn, and {P} [lay in the sun all day|played all day long]. [\"I have plenty of time,\" {he} said.|{^he} did not like to work.]",
        "{^aQ} came by with a heavy basket full of {food}. \"[Winter is coming. Are you ready|Have you filled your pantry]?\" asked {Q}. \"Winter is far away,\" said {P}. \"[Come and play with me|Come and rest].\" But {Q} shook {qhis} head and went on working.",
        "[The leaves fell, and the days became shorter.|The wind became cold.] Then, one morning, everything was white with snow. {^P} looked into {his} pantry. It was empty.",
        "{^P} was cold and hungry. {^he} [looked {spot1}, but there was only snow|looked everywhere, but there was nothing to eat]. At last, {he} knocked at {Q}'s door. \"[Please, may I come in|I was foolish. Can you help me]?\" {he} asked.",
        "{^Q} let {him} in and gave {him} a bowl of hot soup. \"[You may stay here until spring|There is enough for two],\" said {Q}. \"But next year, we will work together.\" \"I promise,\" said {P}.",
        "And {P} kept {his} promise. The next autumn, {he} was the first to get up every morning. [They gathered so many {food} that they could share them with everyone.|Their pantry was full to the roof.] When the snow came, they sat by the fire and {P} told funny stories.",
    ], "[it is wise to work before you rest|a little work today makes a good tomorrow|there is a time to play and a time to work]",
        "who was not ready for winter", "Before the Winter",
        "{^P} played all autumn and did not get ready for winter. When the snow came, {he} was hungry. {^Q} took {him} in, and the next year they worked together.",
        [("Why was {p} hungry?", "{^he} had not gathered any food before winter."), ("Who helped {p}?", "{^Q} helped {him}.")])


@plot(never=("house",))
def star(s):
    return tale([
        "One clear night, {P} was looking at the sky. Suddenly a tiny star fell down and landed {spot1}." if s.habitat != "sea" else
        "One clear night, {P} was looking up through the water. Suddenly a tiny star fell into the sea and landed {spot1}.",
        "{^P} {ran} to the place. The star was no bigger than [a nut|a button], and its light was very weak. \"[I fell from the sky and I do not know how to get back|I want to go home],\" said the star in a small voice.",
        "\"[I will help you|Do not be sad. We will find a way],\" said {P}. {^he} [put the star in a basket|carried it carefully] and went to ask {aQ}.",
        "\"[Take it to the highest place you know|A star needs a high place and a good wish],\" said {Q}. So {P} and {Q} {walked} all night. [The way was long and steep, but the star gave them light.|When they were tired, the star told them stories about the sky.]",
        "At the very top, {P} lifted the star as high as {he} could. \"I wish that you get home safely,\" {he} said. The star began to glow, brighter and brighter. Then it rose up, up, up, and soon it was back in its place in the sky.",
        "[{^P} was happy and a little sad at the same time.|{^P} and {Q} waved until they were tired.] But every night, when {he} looked up, one small star winked at {him}.",
    ], "[helping others lights up the world|a kind heart shines as brightly as a star|saying goodbye can be a gift, too]",
        "who found a star", "The {Noun} and the Star",
        "One night, {P} found a tiny star that had fallen from the sky. With the help of {aQ}, {he} took it to a high place and wished it home. Now the star winks at {him} every night.",
        [("What did {p} find?", "{^he} found a tiny star that had fallen from the sky."), ("Did the star get home?", "Yes, it went back to its place in the sky.")])


@plot(never=("house",))
def storm(s):
    bad, sign = s.pick([("the water became dark and wild", "a trail of white shells")] if s.habitat == "sea" else
                       [("a thick cloud of dust covered everything", "a row of tiny lights")] if s.habitat == "space" else
                       [("a sandstorm came up", "a row of smooth stones"), ("it became very dark", "the bright stars")] if s.habitat == "desert" else
                       [("a thick fog came up", "a row of white stones"), ("a heavy storm began", "the old road"), ("it began to snow", "the old road"), ("it became very dark", "the bright stars")]
                       if s.habitat not in ("jungle", "savanna") else [("a heavy storm began", "the old path"), ("a thick fog came up", "a row of white stones")])
    s.v["sign"] = sign
    return tale([
        "{oneday}, {P} went out to [look for {food}|explore|visit a friend]. [{^his} mother said, \"Do not go too far.\"|\"Be home before dark,\" said {his} mother.] But {P} {walked} farther and farther.",
        "Suddenly " + bad + ". {^P} could not see the way anymore. {^he} went to the left and {he} went to the right, but everything looked strange. \"I am lost,\" said {P}.",
        "{^he} hid {spot1} and tried not to cry. [{^he} was cold and hungry.|It was very quiet.] Then {he} remembered what {his} mother always said: \"If you are lost, stay where you are and call for help.\"",
        "So {P} called as loudly as {he} could. After a while, {aQ} heard {him}. [\"Who is there?\" asked {Q}. \"It is me. I cannot find my way home,\" said {P}.|\"Are you lost?\" asked {Q}. \"Yes, I cannot find my way home,\" said {P}.]",
        "\"[I know the way|Come with me],\" said {Q}. \"We only have to follow {sign}.\" They stayed close together, and {Q} told {him} funny stories so that {he} was not afraid.",
        "[At last|After a long time], {P} saw {his} home. {^his} mother {ran} to meet {him} and held {him} tight. \"I was so worried,\" she said. She gave them both some {food} to eat.",
        "[{^P} never went too far alone again.|After that, {P} and {Q} often went exploring, but they always went together.]",
    ], "[it is good to ask for help when you are lost|home is the best place in a storm|a friend can show you the way]",
        "who got lost", "{^P} Gets Lost",
        "{^P} went too far and got lost. {^he} called for help, and {aQ} heard {him}. {^Q} showed {him} the way home.",
        [("How did they find the way?", "They followed {sign}."), ("Who found {p}?", "{^Q} found {him}.")])

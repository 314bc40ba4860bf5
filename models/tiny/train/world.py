"""The story world: who can appear, where they live, and what is true of them.

Plain tables, written by hand for this model. ` | ` separates columns and `,`
separates alternatives; corpus.py turns the rows into text.
"""


def rows(text):
    return [[c.strip() for c in line.split(" | ")] for line in text.strip().splitlines()]


def items(text):
    return [" ".join(w.split()) for w in text.split(",")]


# noun | habitats | way of moving | gender (h, s, or ? for either)
CHARACTERS = rows("""
fox | forest, snow, farm | walk | ?
rabbit | forest, meadow, farm | hop | ?
bear | forest, mountain | walk | ?
deer | forest, meadow | walk | ?
squirrel | forest | walk | ?
hedgehog | forest, meadow | walk | ?
badger | forest | walk | ?
wolf | forest, snow, mountain | walk | ?
mouse | forest, house, farm, meadow | walk | ?
owl | forest, mountain | fly | ?
mole | meadow, forest | walk | ?
raccoon | forest, town | walk | ?
chipmunk | forest | walk | ?
skunk | forest | walk | ?
porcupine | forest | walk | ?
moose | forest, snow | walk | ?
bat | forest, mountain | fly | ?
woodpecker | forest | fly | ?
robin | forest, meadow | fly | ?
sparrow | town, meadow | fly | ?
bird | forest, meadow, jungle | fly | ?
crow | farm, forest, town | fly | ?
cow | farm, meadow | walk | s
pig | farm | walk | ?
sheep | farm, mountain | walk | ?
lamb | farm, meadow | walk | ?
goat | farm, mountain | walk | ?
horse | farm, meadow | walk | ?
pony | farm, meadow | walk | ?
donkey | farm | walk | ?
hen | farm | walk | s
chicken | farm | walk | s
rooster | farm | walk | h
duck | pond, farm | walk | ?
goose | pond, farm | walk | ?
cat | house, farm, town | walk | ?
kitten | house, farm, town | walk | ?
dog | house, farm, town | walk | ?
puppy | house, farm, town | walk | ?
lion | savanna | walk | ?
tiger | jungle | walk | ?
elephant | savanna, jungle | walk | ?
monkey | jungle | walk | ?
parrot | jungle | fly | ?
giraffe | savanna | walk | ?
zebra | savanna | walk | ?
hippo | savanna | walk | ?
rhino | savanna | walk | ?
cheetah | savanna | walk | ?
leopard | jungle | walk | ?
gorilla | jungle | walk | ?
snake | jungle, desert | crawl | ?
crocodile | jungle, savanna | crawl | ?
panda | jungle, mountain | walk | ?
koala | jungle | walk | ?
kangaroo | savanna, desert | hop | ?
sloth | jungle | walk | ?
lemur | jungle | walk | ?
toucan | jungle | fly | ?
ostrich | savanna | walk | ?
meerkat | desert, savanna | walk | ?
penguin | snow | walk | ?
polar bear | snow | walk | ?
seal | snow, beach | crawl | ?
walrus | snow | crawl | ?
reindeer | snow | walk | ?
snowman | snow | walk | h
yeti | snow, mountain | walk | ?
fish | sea | swim | ?
whale | sea | swim | ?
dolphin | sea | swim | ?
shark | sea | swim | ?
octopus | sea | swim | ?
crab | beach, sea | walk | ?
sea turtle | sea | swim | ?
seahorse | sea | swim | ?
starfish | sea | crawl | ?
jellyfish | sea | swim | ?
lobster | sea | walk | ?
squid | sea | swim | ?
clownfish | sea | swim | ?
mermaid | sea | swim | s
seagull | beach | fly | ?
pelican | beach | fly | ?
camel | desert | walk | ?
lizard | desert, jungle | walk | ?
tortoise | desert, meadow | walk | ?
turtle | pond, beach | walk | ?
armadillo | desert | walk | ?
gecko | desert | walk | ?
coyote | desert | walk | ?
bee | meadow | fly | ?
ant | meadow, forest | walk | ?
butterfly | meadow | fly | ?
ladybug | meadow | fly | ?
snail | meadow | crawl | ?
spider | house, meadow | walk | ?
caterpillar | meadow | crawl | ?
worm | meadow | crawl | ?
grasshopper | meadow | hop | ?
cricket | meadow | hop | ?
beetle | meadow, forest | walk | ?
dragonfly | pond | fly | ?
firefly | meadow, forest | fly | ?
frog | pond | hop | ?
toad | pond | hop | ?
swan | pond | swim | ?
beaver | pond | walk | ?
otter | pond | walk | ?
heron | pond | fly | ?
eagle | mountain | fly | ?
llama | mountain | walk | ?
yak | mountain | walk | ?
dragon | mountain, castle | fly | ?
giant | mountain | walk | ?
troll | mountain, forest | walk | ?
unicorn | forest, castle | walk | ?
fairy | forest, meadow | fly | ?
elf | forest | walk | ?
gnome | meadow, forest | walk | ?
dwarf | mountain | walk | ?
boy | town, farm, beach | walk | h
girl | town, farm, beach | walk | s
farmer | farm | walk | ?
baker | town | walk | ?
tailor | town | walk | ?
painter | town | walk | ?
teacher | town | walk | ?
cook | castle, town | walk | ?
fisherman | beach | walk | h
sailor | beach | walk | ?
pirate | beach | walk | ?
shepherd | mountain, farm | walk | ?
princess | castle | walk | s
prince | castle | walk | h
king | castle | walk | h
queen | castle | walk | s
knight | castle | walk | ?
wizard | castle, forest | walk | h
witch | forest | walk | s
ghost | castle, house | fly | ?
monster | house, forest | walk | ?
robot | town, space | walk | ?
alien | space | walk | ?
astronaut | space | walk | ?
dinosaur | jungle, savanna | walk | ?
teddy bear | house | walk | ?
doll | house | walk | s
toy train | house | roll | ?
toy soldier | house | walk | h
toy car | house | roll | ?
""")

# More heroes, each too rare to be remembered: with these (and with words that corpus.py makes up)
# the model has to learn to copy the noun from the request. habitats | way of moving | nouns
RARE = [(items(h), m, items(n)) for h, m, n in rows("""
house, town, farm, castle, forest | hop | teapot, toaster, potato, pencil, lamp, clock, cup, spoon, button, sock, shoe, hat, umbrella, balloon, kite, cookie, cupcake, pumpkin, carrot, tomato, apple, banana, onion, pea, leaf, flower, sunflower, mushroom, acorn, tree, pebble, stone, snowflake, raindrop, candle, broom, book, pillow, chair, door, drum, violin, bell, puppet, marble, feather, computer, lantern, lemon, bucket, mirror, sandwich, pizza, pancake
town, farm | roll | bicycle, truck, tractor, train, car, bus, wagon, scooter, fire engine
sea | swim | boat, ship, submarine, narwhal, shrimp, eel, salmon, stingray, pufferfish, manatee, sea lion, goldfish
mountain, castle, meadow | fly | cloud, flamingo, peacock, pigeon, dove, hawk, falcon, stork, crane, puffin, magpie, canary, cuckoo, nightingale, vulture, wasp, moth, phoenix, griffin, hummingbird, swallow, hornet, kingfisher
space | fly | rocket, comet, moon, planet, sun, satellite
forest, meadow, pond | walk | platypus, wombat, lynx, bison, ferret, weasel, stoat, salamander, newt, turkey, mule, ox, bull, calf, foal, centipede, goblin, dormouse, hare, marmot, boar, muskrat, elk, vole, lamb, rat
house, town | walk | hamster, guinea pig, gerbil, chinchilla, chameleon, vampire, mummy, zombie, ninja, detective, clown, doctor, nurse, pilot, scientist, grandma, grandpa, baby, superhero, inventor, gardener, musician, dancer, soldier, carpenter, blacksmith, child, student, policeman, mailman, magician, singer
jungle, savanna, desert | walk | puma, jaguar, panther, buffalo, gazelle, antelope, hyena, jackal, mongoose, iguana, tapir, okapi, anteater, aardvark, ocelot, dingo, emu, kiwi, quokka, wallaby, tarantula, scorpion, alpaca, baboon, warthog, triceratops, tyrannosaurus, mammoth, cowboy, cactus, axolotl, capybara, red panda, chimpanzee, orangutan
""")]

HE = items("""Rusty, Max, Tom, Ben, Oliver, Finn, Leo, Jack, Sam, Charlie, Toby, Hugo, Felix, Oscar, Milo,
Otto, Pip, Theo, Barnaby, Jasper, Henry, Bruno, Gus, Alfie, Archie, Benny, Bobby, Chester, Dexter, Duncan,
Eddie, Ernie, Freddy, George, Harry, Hector, Ivan, Jimmy, Kip, Louis, Marvin, Ned, Nico, Ollie, Percy, Peter,
Quentin, Ralph, Ricky, Robin, Rory, Rufus, Simon, Teddy, Tim, Timmy, Victor, Walter, Wilbur, Zack, Boris, Arlo,
Noah, Liam, Lucas, David, Daniel, James, John, Paul, Omar, Ravi, Kenji, Pablo, Diego, Ahmed, Yuri, Bob""")
SHE = items("""Lily, Lucy, Mia, Ruby, Rosie, Daisy, Bella, Molly, Poppy, Hazel, Olive, Ivy, Luna, Stella,
Clara, Emma, Ella, Anna, Sophie, Amy, Alice, Penny, Tilly, Willow, Maple, Coco, Dora, Betty, Bonnie, Cora, Dolly,
Edith, Elsie, Fay, Fern, Flora, Gemma, Ginger, Gracie, Greta, Hannah, Hattie, Holly, Iris, Jasmine, Josie,
June, Kitty, Lola, Lottie, Mabel, Maggie, Martha, Matilda, Millie, Minnie, Nell, Nina, Nora, Opal, Pearl, Peggy,
Pippa, Polly, Rosa, Sally, Susie, Tess, Violet, Wendy, Winnie, Zoe, Sara, Mary, Jane, Kate, Maya, Aisha, Yuki""")

# Every adjective comes with a sentence that shows it.
ADJECTIVES = dict(rows("""
brave | [{^he} was not afraid of anything, or so {he} said.|Everyone knew that {he} was brave.]
clever | [{^he} always had a good idea.|{^he} could solve any riddle.|Everyone came to {him} for advice.]
curious | [{^he} wanted to know everything about the world.|{^he} asked questions all day long.]
kind | [{^he} was always ready to help others.|{^he} had a warm smile for everyone.]
shy | [{^he} did not talk very much.|{^he} often hid when somebody new came by.]
lazy | [{^he} liked to sleep until noon.|{^he} never did today what {he} could do tomorrow.]
hungry | [{^he} thought about food all day long.|{^his} tummy was always rumbling.]
lonely | [{^he} wished that {he} had more friends.|{^he} often sat alone and watched the clouds.]
sleepy | [{^he} yawned from morning until night.|{^he} could fall asleep anywhere.]
grumpy | [{^he} hardly ever smiled.|{^he} grumbled about the sun and {he} grumbled about the rain.]
silly | [{^he} liked to make everyone laugh.|{^he} wore a leaf on {his} head and called it a hat.]
happy | [{^he} hummed a little song all day.|{^he} woke up with a smile every morning.]
proud | [{^he} thought that {he} was the best at everything.|{^he} held {his} head very high.]
tiny | [{^he} was no bigger than a thumb.|{^he} was so small that hardly anyone noticed {him}.]
little | [{^he} was small, but {he} had a big heart.|{^he} was the smallest of all {his} friends.]
small | [{^he} was small, but {he} had big dreams.|{^he} was smaller than all {his} friends.]
young | [{^he} still had a lot to learn.|{^he} was still very young and full of questions.]
old | [{^he} had seen many summers.|{^he} knew a great many stories.]
big | [{^he} was bigger than everyone else.|{^he} was so big that the ground shook a little under {him}.]
greedy | [{^he} always wanted more than {he} had.|{^he} never liked to share.]
cheerful | [{^he} sang from morning until night.|{^he} could make anyone smile.]
gentle | [{^he} had a soft voice and a soft heart.|{^he} never hurt anyone.]
playful | [{^he} loved games more than anything.|{^he} was always ready to play.]
clumsy | [{^he} was always falling over something.|{^he} dropped nearly everything {he} picked up.]
quiet | [{^he} liked to listen more than to talk.|{^he} hardly ever made a sound.]
noisy | [{^he} was the loudest of all {his} friends.|{^he} could be heard from far away.]
magical | [{^he} could make tiny stars dance in the air.|There was a soft glow around {him}.]
stubborn | [{^he} never changed {his} mind.|{^he} always wanted to do things {his} own way.]
friendly | [{^he} said hello to everyone {he} met.|{^he} was everybody's friend.]
sad | [Nobody knew why {he} was so sad.|{^he} had not laughed for a long time.]
red | [{^he} was as red as a ripe apple.|Nobody else was so bright and red.]
blue | [{^he} was as blue as the summer sky.|Everyone knew {him} because {he} was so blue.]
white | [{^he} was as white as milk.|{^he} was as white as fresh snow.]
golden | [{^he} shone like the sun.|{^he} shone like a coin in the light.]
purple | [{^he} was as purple as a plum.|Nobody had ever seen anyone so purple.]
green | [{^he} was as green as the grass.|{^he} was as green as a summer leaf.]
"""))
NOT_FOR_PEOPLE = set(items("red, blue, white, golden, purple, green, big, tiny, old"))
PEOPLE = set(items("""boy, girl, farmer, baker, tailor, painter, teacher, cook, fisherman, sailor, pirate, shepherd, princess,
prince, king, queen, knight, wizard, witch, mermaid, astronaut, doctor, nurse, pilot, scientist, grandma, grandpa, baby, clown, ninja,
detective, inventor, gardener, musician, dancer, soldier, carpenter, blacksmith, child, student, policeman, mailman, singer"""))

# What a request may name as the topic, and the plots that fit it.
THEMES = {
    "friendship": items("lonely, gift, rescue, build, storm"),
    "courage": items("afraid, storm, journey"), "being brave": items("afraid, storm"),
    "sharing": items("share, gift"), "kindness": items("rescue, share, star"),
    "telling the truth": items("truth"), "honesty": items("truth"), "patience": items("seed"),
    "a birthday": items("birthday"), "a magic wish": items("wish"), "wishes": items("wish"),
    "a treasure": items("journey"), "an adventure": items("journey, mystery, storm"),
    "a race": items("contest"), "a mystery": items("mystery"), "helping others": items("rescue, spring"),
    "never giving up": items("learn, build"), "losing something": items("lost"),
    "sleep": items("sleepless"), "bedtime": items("sleepless, star"), "a star": items("star"),
    "hard work": items("winter, build"), "winter": items("winter"), "working together": items("build, spring"),
}

# habitat: where (story place) | spots to look (after a verb) | homes | plural foods | friends | words for requests
HABITATS = {r[0]: [items(c) for c in r[1:]] for r in rows("""
forest | in a green forest, at the edge of a deep forest, in a quiet forest, in the heart of an old forest | under the old oak tree, behind the mossy rocks, inside a hollow log, beside the stream, among the ferns, near the blackberry bushes, under a pile of leaves, behind the tall pine trees | a cosy den under an oak tree, a small house in a hollow tree, a burrow between the roots of a tree, a little hut covered with moss | berries, nuts, mushrooms, apples, blackberries, honey cakes | owl, squirrel, rabbit, hedgehog, bear, mouse, badger, deer, robin, fox, frog, mole | in the forest, in the woods
meadow | in a sunny meadow, in a field full of flowers, at the edge of a wide meadow, in a little garden | under the big sunflower, behind the garden wall, among the tall grass, beside the old well, near the rose bush, under a cabbage leaf, behind the watering can | a small house under a mushroom, a tiny burrow under the daisies, a snug nest in the long grass, a little home beneath a stone | strawberries, seeds, carrots, peas, cherries, sweet clovers | bee, butterfly, snail, ladybug, mouse, mole, grasshopper, rabbit, ant, robin, hedgehog | in the garden, in a meadow
farm | on a farm, on a little farm, on a farm near the hills, on a quiet old farm | behind the red barn, under the hay, beside the pond, near the wooden fence, inside the old cart, behind the apple tree, under the water trough | a warm corner of the barn, a little house with a red roof, a cosy shed full of straw | apples, carrots, pears, corn cakes, plums, turnips | cow, pig, sheep, goat, horse, donkey, hen, duck, dog, cat, goose | on a farm, on the farm
jungle | in a thick jungle, in a warm green jungle, deep in the jungle | behind the waterfall, under a giant leaf, among the vines, near the muddy river, inside a hollow tree, beside the tall bamboo, under the banana tree | a nest of soft leaves, a house high in a tree, a shady place behind a waterfall | bananas, mangoes, coconuts, figs, melons | monkey, parrot, tiger, elephant, sloth, toucan, gorilla, lizard, panda, snake, frog | in the jungle, in the rainforest
savanna | on the wide grassy plains, on a golden plain, under the hot sun of the savanna | under the thorn tree, behind the tall rocks, near the water hole, among the yellow grass, beside the dusty path, inside a dry hollow log | a shady place under a big tree, a cave between warm rocks, a bed of dry grass | melons, figs, roots, berries, mangoes | lion, elephant, giraffe, zebra, hippo, rhino, cheetah, ostrich, meerkat, tortoise | in Africa, on the savanna
desert | in a hot desert, in a desert of golden sand, at the edge of the desert | behind a tall cactus, under a flat stone, near the old well, beside the palm tree, among the dunes, inside a dry cave | a cool hole under a rock, a little cave in the sand, a tent near a palm tree | dates, figs, melons, cactus fruits, honey cakes | camel, lizard, tortoise, meerkat, gecko, armadillo, snake, mouse | in the desert
snow | in the land of ice and snow, in the far cold north, on a snowy hill, on the shore of a frozen sea | behind a block of ice, under a heap of snow, near the frozen lake, inside an icy cave, beside the snowy rocks, among the white hills | a warm house made of snow, a snug cave in the ice, a little hut with a smoking chimney | berries, nuts, warm buns, cookies, oat cakes | penguin, polar bear, seal, walrus, reindeer, owl, wolf, fox | in the snow, at the North Pole
sea | at the bottom of the sea, deep in the blue sea, in a warm blue ocean, near a coral reef | behind the pink coral, under a flat rock, inside an old sunken ship, among the seaweed, beside a giant clam, near the sandy cave | a small cave in the coral reef, a house made of shells, a garden of seaweed, an old sunken ship | sea berries, seaweed cakes, sea grapes, sea plums | dolphin, octopus, crab, sea turtle, seahorse, whale, starfish, clownfish, lobster, squid | in the sea, under the sea, in the ocean
beach | by the sea, on a sandy beach, on a little island, in a village by the sea | behind the sand dunes, under an old boat, among the rocks, near the lighthouse, beside the pier, inside a big shell | a little house near the lighthouse, an old boat on the sand, a hut with a view of the waves | coconuts, oranges, berries, pies, sandwiches | crab, seagull, turtle, pelican, seal, dog, cat, sailor | by the sea, at the beach, on an island
pond | by a quiet pond, beside a big pond, near a slow river, by a lake full of lilies | under a lily pad, behind the reeds, beside the old willow tree, near the little bridge, among the water lilies, under the muddy bank | a nest among the reeds, a house of sticks by the water, a snug hole in the river bank | berries, seeds, apples, nuts, pears | frog, duck, beaver, otter, swan, turtle, toad, goose, dragonfly, heron | by the pond, by the river, at the lake
mountain | on a high mountain, on top of a misty mountain, in the mountains, at the foot of a tall mountain | behind the big rock, inside a dark cave, near the waterfall, under the pine tree, beside the stone bridge, among the purple flowers | a warm cave, a stone hut on a cliff, a cave with a view over the valley | berries, nuts, apples, pies, pears | goat, eagle, llama, sheep, bear, owl, wolf, shepherd, yak | in the mountains, on a mountain
town | in a small town, in a busy town, in a little village, in a town with crooked streets | behind the bakery, under the bridge, near the town clock, beside the fountain, inside the old shed, among the market stalls, under the park bench | a tall narrow house, a little blue house, a room above the bakery, a house at the end of the street | apples, buns, cookies, pears, pancakes, oranges | cat, dog, mouse, sparrow, baker, painter, tailor, teacher, crow | in a town, in the city, in a village
castle | in a great castle, in a castle on a hill, in a kingdom far away, in a castle by a lake | under the throne, behind the tall tower, inside the kitchen, beside the royal fountain, among the roses, near the castle gate, under the stone stairs | a tower with a round window, a room full of books, a big room with golden curtains | cakes, pears, apples, tarts, plums, honey cakes | king, queen, knight, cook, prince, princess, wizard, mouse, cat, horse | in a castle, in a kingdom
house | in a big old house, in a child's bedroom, in a house on a hill, in a toy shop | under the bed, behind the sofa, inside the toy box, beside the window, among the books, near the fireplace, behind the curtains | a shoe box under the bed, a shelf by the window, a basket near the fireplace | cookies, raisins, buns, pancakes, cherries | cat, dog, mouse, spider, teddy bear, doll, toy train, toy soldier | in a house, in a toy shop
space | on a small round planet, on the moon, in a space station among the stars, on a planet with two moons | behind a grey crater, under the silver rocket, inside a dark cave, beside the moon rocks, near the landing place, among the shiny stones | a round house made of metal, a little silver rocket, a dome full of plants | star cakes, moon berries, space cookies, moon melons | robot, alien, astronaut, star | in space, on the moon
""")}

LIKES = items("""to sing, to tell stories, to play hide and seek, to look at the clouds, to collect
smooth stones, to dance in the rain, to count the stars, to make new friends, to play games, to laugh,
to watch the sunset, to draw pictures, to explore new places, to take long naps""")
THINGS = items("""little bell, blue button, silver whistle, wooden boat, round drum, shiny key, tiny lantern,
music box, glass marble, picture book, red ball, gold ring, toy bear, yellow kite, wooden spoon, paint brush,
warm blanket, striped scarf, woolly hat, straw hat, green ribbon, brass compass, old map, shiny coin, pink shell""")
SEA_THINGS = items("""white pearl, gold ring, silver spoon, pink shell, shiny coin, little bell, glass marble,
shiny key, green ribbon, blue button, brass compass""")

# animal | eats | lives | says | description; used for short questions and answers
FACTS = rows("""
fox | mice, berries, and insects | in forests and fields | barks and yelps | a clever animal with red fur and a bushy tail
rabbit | grass, leaves, and carrots | in burrows under the ground | squeaks softly | a small furry animal with long ears
bear | berries, fish, and honey | in forests and mountains | growls | a big strong animal with thick fur
wolf | meat | in forests and cold plains | howls | a wild animal that looks like a big dog and lives in a pack
deer | grass, leaves, and bark | in forests and meadows | bleats softly | a gentle animal with long legs
squirrel | nuts, seeds, and fruit | in trees | chatters | a small animal with a bushy tail that climbs trees
hedgehog | insects, worms, and snails | in gardens and woods | snuffles | a small animal covered with spines
mouse | seeds, grain, and cheese | in fields and houses | squeaks | a very small animal with a long tail
owl | mice and other small animals | in trees and old barns | hoots | a bird that flies and hunts at night
cow | grass and hay | on farms | moos | a farm animal that gives us milk
pig | vegetables, roots, and grain | on farms | oinks | a smart farm animal with a flat nose
sheep | grass | on farms and hills | says baa | a farm animal that gives us wool
goat | grass, leaves, and almost anything | on farms and mountains | bleats | an animal with horns that likes to climb
horse | grass, hay, and oats | on farms and meadows | neighs | a strong animal that can run very fast
donkey | grass and hay | on farms | says hee-haw | an animal like a small horse with long ears
hen | seeds and worms | on farms | clucks | a farm bird that lays eggs
rooster | seeds and worms | on farms | says cock-a-doodle-doo | a male chicken that crows in the morning
duck | water plants, seeds, and insects | near ponds and rivers | quacks | a bird that swims very well
cat | meat, fish, and cat food | in houses with people | meows | a soft pet that likes to sleep and to hunt mice
dog | meat and dog food | in houses with people | barks | a loyal pet and a good friend of people
lion | meat | on the plains of Africa | roars | a big wild cat; the male has a mane
tiger | meat | in the forests of Asia | roars | a big wild cat with black and orange stripes
elephant | grass, leaves, and fruit | in Africa and Asia | trumpets | the largest animal on land, with a long trunk
monkey | fruit, leaves, and insects | in jungles | chatters | a clever animal that climbs trees
giraffe | leaves from tall trees | on the plains of Africa | hums softly | a very tall animal with a long neck
zebra | grass | on the plains of Africa | barks | an animal like a horse with black and white stripes
panda | bamboo | in the mountains of China | bleats | a black and white bear
koala | eucalyptus leaves | in the trees of Australia | grunts | a furry animal that sleeps most of the day
kangaroo | grass and leaves | in Australia | chuckles and clicks | an animal that hops and carries its baby in a pouch
snake | mice, frogs, and eggs | in forests, deserts, and grass | hisses | a long animal with no legs
crocodile | fish and meat | in warm rivers | growls | a large reptile with strong teeth
penguin | fish | on cold coasts in the south | brays | a bird that cannot fly but swims very well
polar bear | seals and fish | in the far north | growls | a large white bear that lives on the ice
whale | tiny sea animals and fish | in the ocean | sings | a huge animal that lives in the sea and breathes air
dolphin | fish | in the ocean | clicks and whistles | a smart and playful animal that lives in the sea
shark | fish | in the ocean | makes no sound | a large fish with sharp teeth
octopus | crabs and shellfish | in the ocean | makes no sound | a sea animal with eight arms
crab | small sea animals and plants | near the sea | clicks its claws | a sea animal with a hard shell and two claws
turtle | plants, fish, and insects | in ponds and in the sea | makes almost no sound | a slow animal with a hard shell
camel | dry grass and thorny plants | in deserts | groans | an animal with a hump that can go many days without water
bee | nectar and pollen | in hives | buzzes | an insect that makes honey
ant | seeds, sugar, and small insects | in nests under the ground | makes almost no sound | a tiny insect that works hard
butterfly | nectar from flowers | in gardens and meadows | makes no sound | an insect with large colorful wings
snail | leaves | in gardens | makes no sound | a slow animal that carries its house on its back
spider | insects | in webs | makes no sound | a small animal with eight legs that spins webs
frog | insects and worms | near ponds | croaks | a small animal that jumps and swims
eagle | fish and small animals | in high mountains | screeches | a large bird with very sharp eyes
parrot | seeds and fruit | in jungles | squawks and can learn words | a colorful bird that can copy what people say
bat | insects and fruit | in caves | squeaks | a flying animal that sleeps upside down
dragon | whatever the story says | in fairy tales | roars | a creature from stories that flies and breathes fire
unicorn | apples and stardust, in stories | in fairy tales | neighs | a creature from stories that looks like a horse with one horn
""")

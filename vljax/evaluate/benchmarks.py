"""Class names and prompt templates of data sets that zero-shot classification is usually measured on.

Source: OpenAI's `data/prompts.md` (github.com/openai/CLIP, MIT License, Copyright (c) 2021 OpenAI), the names and
templates behind the zero-shot numbers of arXiv 2103.00020; each set's names in the order of its labels there. A `;`
parts them here. Not all are the sets' own spellings: so there, so here.
"""

_NAMES = {
  "cifar100": """
apple; aquarium fish; baby; bear; beaver; bed; bee; beetle; bicycle; bottle; bowl; boy; bridge; bus; butterfly;
camel; can; castle; caterpillar; cattle; chair; chimpanzee; clock; cloud; cockroach; couch; crab; crocodile; cup;
dinosaur; dolphin; elephant; flatfish; forest; fox; girl; hamster; house; kangaroo; keyboard; lamp; lawn mower;
leopard; lion; lizard; lobster; man; maple tree; motorcycle; mountain; mouse; mushroom; oak tree; orange; orchid;
otter; palm tree; pear; pickup truck; pine tree; plain; plate; poppy; porcupine; possum; rabbit; raccoon; ray; road;
rocket; rose; sea; seal; shark; shrew; skunk; skyscraper; snail; snake; spider; squirrel; streetcar; sunflower; sweet
pepper; table; tank; telephone; television; tiger; tractor; train; trout; tulip; turtle; wardrobe; whale; willow
tree; wolf; woman; worm
""",
  "stl10": """
airplane; bird; car; cat; deer; dog; horse; monkey; ship; truck
""",
  "food101": """
apple pie; baby back ribs; baklava; beef carpaccio; beef tartare; beet salad; beignets; bibimbap; bread pudding;
breakfast burrito; bruschetta; caesar salad; cannoli; caprese salad; carrot cake; ceviche; cheese plate; cheesecake;
chicken curry; chicken quesadilla; chicken wings; chocolate cake; chocolate mousse; churros; clam chowder; club
sandwich; crab cakes; creme brulee; croque madame; cup cakes; deviled eggs; donuts; dumplings; edamame; eggs
benedict; escargots; falafel; filet mignon; fish and chips; foie gras; french fries; french onion soup; french toast;
fried calamari; fried rice; frozen yogurt; garlic bread; gnocchi; greek salad; grilled cheese sandwich; grilled
salmon; guacamole; gyoza; hamburger; hot and sour soup; hot dog; huevos rancheros; hummus; ice cream; lasagna;
lobster bisque; lobster roll sandwich; macaroni and cheese; macarons; miso soup; mussels; nachos; omelette; onion
rings; oysters; pad thai; paella; pancakes; panna cotta; peking duck; pho; pizza; pork chop; poutine; prime rib;
pulled pork sandwich; ramen; ravioli; red velvet cake; risotto; samosa; sashimi; scallops; seaweed salad; shrimp and
grits; spaghetti bolognese; spaghetti carbonara; spring rolls; steak; strawberry shortcake; sushi; tacos; takoyaki;
tiramisu; tuna tartare; waffles
""",
  "oxford_pets": """
Abyssinian; Bengal; Birman; Bombay; British Shorthair; Egyptian Mau; Maine Coon; Persian; Ragdoll; Russian Blue;
Siamese; Sphynx; american bulldog; american pit bull terrier; basset hound; beagle; boxer; chihuahua; english cocker
spaniel; english setter; german shorthaired; great pyrenees; havanese; japanese chin; keeshond; leonberger; miniature
pinscher; newfoundland; pomeranian; pug; saint bernard; samoyed; scottish terrier; shiba inu; staffordshire bull
terrier; wheaten terrier; yorkshire terrier
""",
  "flowers102": """
pink primrose; hard-leaved pocket orchid; canterbury bells; sweet pea; english marigold; tiger lily; moon orchid;
bird of paradise; monkshood; globe thistle; snapdragon; colt's foot; king protea; spear thistle; yellow iris; globe
flower; purple coneflower; peruvian lily; balloon flower; giant white arum lily; fire lily; pincushion flower;
fritillary; red ginger; grape hyacinth; corn poppy; prince of wales feathers; stemless gentian; artichoke; sweet
william; carnation; garden phlox; love in the mist; mexican aster; alpine sea holly; ruby-lipped cattleya; cape
flower; great masterwort; siam tulip; lenten rose; barbeton daisy; daffodil; sword lily; poinsettia; bolero deep
blue; wallflower; marigold; buttercup; oxeye daisy; common dandelion; petunia; wild pansy; primula; sunflower;
pelargonium; bishop of llandaff; gaura; geranium; orange dahlia; pink and yellow dahlia; cautleya spicata; japanese
anemone; black-eyed susan; silverbush; californian poppy; osteospermum; spring crocus; bearded iris; windflower; tree
poppy; gazania; azalea; water lily; rose; thorn apple; morning glory; passion flower; lotus; toad lily; anthurium;
frangipani; clematis; hibiscus; columbine; desert-rose; tree mallow; magnolia; cyclamen; watercress; canna lily;
hippeastrum; bee balm; air plant; foxglove; bougainvillea; camellia; mallow; mexican petunia; bromelia; blanket
flower; trumpet creeper; blackberry lily
""",
  "eurosat": """
forest; permanent crop land; residential buildings or homes or apartments; river; pasture land; lake or sea;
brushland or shrubland; annual crop land; industrial buildings or commercial buildings; highway or road
""",
  "dtd": """
banded; blotchy; braided; bubbly; bumpy; chequered; cobwebbed; cracked; crosshatched; crystalline; dotted; fibrous;
flecked; freckled; frilly; gauzy; grid; grooved; honeycombed; interlaced; knitted; lacelike; lined; marbled; matted;
meshed; paisley; perforated; pitted; pleated; polka-dotted; porous; potholed; scaly; smeared; spiralled; sprinkled;
stained; stratified; striped; studded; swirly; veined; waffled; woven; wrinkled; zigzagged
""",
  "mnist": """
0; 1; 2; 3; 4; 5; 6; 7; 8; 9
""",
  "resisc45": """
airplane; airport; baseball diamond; basketball court; beach; bridge; chaparral; church; circular farmland; cloud;
commercial area; dense residential; desert; forest; freeway; golf course; ground track field; harbor; industrial
area; intersection; island; lake; meadow; medium residential; mobile home park; mountain; overpass; palace; parking
lot; railway; railway station; rectangular farmland; river; roundabout; runway; sea ice; ship; snowberg; sparse
residential; stadium; storage tank; tennis court; terrace; thermal power station; wetland
""",
  "patch_camelyon": """
lymph node; lymph node containing metastatic tumor tissue
""",
  "gtsrb": """
red and white circle 20 kph speed limit; red and white circle 30 kph speed limit; red and white circle 50 kph speed
limit; red and white circle 60 kph speed limit; red and white circle 70 kph speed limit; red and white circle 80 kph
speed limit; end / de-restriction of 80 kph speed limit; red and white circle 100 kph speed limit; red and white
circle 120 kph speed limit; red and white circle red car and black car no passing; red and white circle red truck and
black car no passing; red and white triangle road intersection warning; white and yellow diamond priority road; red
and white upside down triangle yield right-of-way; stop; empty red and white circle; red and white circle no truck
entry; red circle with white horizonal stripe no entry; red and white triangle with exclamation mark warning; red and
white triangle with black left curve approaching warning; red and white triangle with black right curve approaching
warning; red and white triangle with black double curve approaching warning; red and white triangle rough / bumpy
road warning; red and white triangle car skidding / slipping warning; red and white triangle with merging / narrow
lanes warning; red and white triangle with person digging / construction / road work warning; red and white triangle
with traffic light approaching warning; red and white triangle with person walking warning; red and white triangle
with child and person walking warning; red and white triangle with bicyle warning; red and white triangle with
snowflake / ice warning; red and white triangle with deer warning; white circle with gray strike bar no speed limit;
blue circle with white right turn arrow mandatory; blue circle with white left turn arrow mandatory; blue circle with
white forward arrow mandatory; blue circle with white forward or right turn arrow mandatory; blue circle with white
forward or left turn arrow mandatory; blue circle with white keep right arrow mandatory; blue circle with white keep
left arrow mandatory; blue circle with white arrows indicating a traffic circle; white circle with gray strike bar
indicating no passing for cars has ended; white circle with gray strike bar indicating no passing for trucks has
ended
""",
  "fgvc_aircraft": """
707-320; 727-200; 737-200; 737-300; 737-400; 737-500; 737-600; 737-700; 737-800; 737-900; 747-100; 747-200; 747-300;
747-400; 757-200; 757-300; 767-200; 767-300; 767-400; 777-200; 777-300; A300B4; A310; A318; A319; A320; A321;
A330-200; A330-300; A340-200; A340-300; A340-500; A340-600; A380; ATR-42; ATR-72; An-12; BAE 146-200; BAE 146-300;
BAE-125; Beechcraft 1900; Boeing 717; C-130; C-47; CRJ-200; CRJ-700; CRJ-900; Cessna 172; Cessna 208; Cessna 525;
Cessna 560; Challenger 600; DC-10; DC-3; DC-6; DC-8; DC-9-30; DH-82; DHC-1; DHC-6; DHC-8-100; DHC-8-300; DR-400;
Dornier 328; E-170; E-190; E-195; EMB-120; ERJ 135; ERJ 145; Embraer Legacy 600; Eurofighter Typhoon; F-16A/B;
F/A-18; Falcon 2000; Falcon 900; Fokker 100; Fokker 50; Fokker 70; Global Express; Gulfstream IV; Gulfstream V; Hawk
T1; Il-76; L-1011; MD-11; MD-80; MD-87; MD-90; Metroliner; Model B200; PA-28; SR-20; Saab 2000; Saab 340; Spitfire;
Tornado; Tu-134; Tu-154; Yak-42
""",
}

_TEMPLATES = {
  "cifar10": """
a photo of a {}.
a blurry photo of a {}.
a black and white photo of a {}.
a low contrast photo of a {}.
a high contrast photo of a {}.
a bad photo of a {}.
a good photo of a {}.
a photo of a small {}.
a photo of a big {}.
a photo of the {}.
a blurry photo of the {}.
a black and white photo of the {}.
a low contrast photo of the {}.
a high contrast photo of the {}.
a bad photo of the {}.
a good photo of the {}.
a photo of the small {}.
a photo of the big {}.
""",
  "stl10": """
a photo of a {}.
a photo of the {}.
""",
  "food101": """
a photo of {}, a type of food.
""",
  "oxford_pets": """
a photo of a {}, a type of pet.
""",
  "flowers102": """
a photo of a {}, a type of flower.
""",
  "eurosat": """
a centered satellite photo of {}.
a centered satellite photo of a {}.
a centered satellite photo of the {}.
""",
  "dtd": """
a photo of a {} texture.
a photo of a {} pattern.
a photo of a {} thing.
a photo of a {} object.
a photo of the {} texture.
a photo of the {} pattern.
a photo of the {} thing.
a photo of the {} object.
""",
  "mnist": """
a photo of the number: "{}".
""",
  "resisc45": """
satellite imagery of {}.
aerial imagery of {}.
satellite photo of {}.
aerial photo of {}.
satellite view of {}.
aerial view of {}.
satellite imagery of a {}.
aerial imagery of a {}.
satellite photo of a {}.
aerial photo of a {}.
satellite view of a {}.
aerial view of a {}.
satellite imagery of the {}.
aerial imagery of the {}.
satellite photo of the {}.
aerial photo of the {}.
satellite view of the {}.
aerial view of the {}.
""",
  "patch_camelyon": """
this is a photo of {}
""",
  "gtsrb": """
a zoomed in photo of a "{}" traffic sign.
a centered photo of a "{}" traffic sign.
a close up photo of a "{}" traffic sign.
""",
  "fgvc_aircraft": """
a photo of a {}, a type of aircraft.
a photo of the {}, a type of aircraft.
""",
}

NAMES: dict[str, tuple[str, ...]] = {
  key: tuple(name.strip() for name in names.replace("\n", " ").split(";")) for key, names in _NAMES.items()
}
"""Data set to its class names."""

TEMPLATES: dict[str, tuple[str, ...]] = {key: tuple(lines.strip().splitlines()) for key, lines in _TEMPLATES.items()}
TEMPLATES["cifar100"] = TEMPLATES["cifar10"]
"""Data set to its templates."""

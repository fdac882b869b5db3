"""What instruct prompts are about."""

TOPICS = (
    "rivers", "bees", "tea", "bread", "the moon", "bicycles", "libraries", "rain", "dogs", "cats", "honey", "maps",
    "winter", "summer", "spring", "autumn", "trains", "bridges", "clocks", "candles", "coffee", "gardens", "forests",
    "deserts", "islands", "mountains", "lakes", "the ocean", "whales", "dolphins", "owls", "eagles", "horses", "sheep",
    "cheese", "apples", "oranges", "rice", "salt", "sugar", "music", "painting", "dancing", "poetry", "theatre",
    "photography", "chess", "football", "swimming", "running", "yoga", "sleep", "dreams", "friendship", "patience",
    "kindness", "courage", "curiosity", "teamwork", "honesty", "robots", "computers", "telephones", "radio",
    "newspapers", "letters", "email", "batteries", "solar power", "wind power", "recycling", "clean water", "soap",
    "glass", "paper", "wood", "iron", "gold", "cotton", "silk", "wool", "shoes", "hats", "umbrellas", "mirrors",
    "windows", "doors", "lamps", "chairs", "kitchens", "markets", "villages", "cities", "airports", "ships", "boats",
    "lighthouses", "castles", "museums", "schools", "hospitals", "doctors", "nurses", "teachers", "farmers", "bakers",
    "firefighters", "pilots", "sailors", "gravity", "magnets", "light", "sound", "thunder", "snow", "clouds",
    "rainbows", "volcanoes", "earthquakes", "stars", "planets", "comets", "fossils", "dinosaurs", "butterflies",
    "ants", "spiders", "frogs", "snakes", "turtles", "penguins", "bears", "wolves", "foxes", "rabbits", "mushrooms",
    "roses", "tulips", "oak trees", "seeds", "soil", "breakfast", "soup", "salad", "chocolate", "ice cream",
    "birthdays", "holidays", "weddings", "picnics", "camping", "hiking", "fishing", "knitting", "cooking", "reading",
    "writing", "drawing", "singing", "drums", "guitars", "pianos", "violins", "elephants", "lions", "tigers",
    "monkeys", "parrots", "swans", "ducks", "chickens", "cows", "goats", "pasta", "pizza", "potatoes", "tomatoes",
    "carrots", "onions", "pepper", "olive oil", "lemons", "bananas", "grapes", "strawberries", "nuts", "milk",
    "butter", "eggs",
)
# A request, and a title for what answers it.
REQUESTS = (
    ("Write two sentences about {topic}.", "About {topic}"),
    ("Tell me something about {topic}.", "Something about {topic}"),
    ("Why do people like {topic}?", "Why people like {topic}"),
    ("Give a short description of {topic}.", "What there is to know about {topic}"),
    ("Explain {topic} to a child.", "For children: {topic}"),
    ("Write a short note about {topic}.", "A note about {topic}"),
    ("What is interesting about {topic}?", "What is interesting about {topic}"),
    ("Share one fact about {topic}.", "A fact about {topic}"),
)

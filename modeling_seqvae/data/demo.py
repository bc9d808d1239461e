"""The corpus `demo`: short synthetic reviews drawn from a grammar of our own, so that log p(x) is known exactly.

Seven attributes are drawn for a review and colour its words from the first to the last: "wow , last friday we ..." and
"... we cannot wait to return !" say the same things twice. A latent variable can hold them from the start; a language
model has to find them out as it reads. A review has about 21 nats on average, 7 of them shared with its attributes,
and how far a model stays above the true entropy is the mean of its NLL minus `true_nll`, sentence by sentence.
"""

import random
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray

from .corpus_spec import SPLITS
from .grammar import Grammar

SIZES = (20_000, 2_000, 2_000)

GRAMMAR = """
# The attributes, drawn once a review.

topic  -> restaurant (5) | cafe (4) | hotel (4) | museum (3) | cinema (3) | bookshop (3)
aspect -> product (4) | people (3) | setting (3) | price (2)
stars  -> 1 (3) | 2 (3) | 3 (4) | 4 (5) | 5 (5)
tense  -> past (3) | present (2)
tone [stars=1,5]   -> plain (3) | lively (4) | formal (2)
tone [stars=2,3,4] -> plain (4) | lively (2) | formal (3)
person -> i (4) | we (5)
length -> short (3) | medium (5) | long (4)

# Plans of 6 to 30 words and marks. Some serve two lengths.

REVIEW [length=short]
    -> what a IMPRESSION PLACE , BRIEF STOP (3) | HAIL another NEUTRAL PLACE , BRIEF STOP (2)
    | HAIL ABOUT_HERE STOP (2) | HAIL NOTE , OTHER_NOTE STOP (2) | NOTE , OTHER_NOTE , BRIEF STOP (2) | ADVICE STOP (2)
REVIEW [length=short,medium]
    -> ABOUT_HERE STOP BRIEF STOP (2) | OPENING STOP BRIEF STOP
REVIEW [length=medium]
    -> HAIL OPENING JOIN ABOUT AGAIN STOP (3) | OPENING and FIND FOUND STOP BRIEF STOP (2) | HAIL OPENING STOP CLOSE (2)
    | HAIL ABOUT_HERE AND ABOUT_OTHER STOP (2) | ABOUT_HERE STOP CLOSE (2) | NOTE , OTHER_NOTE STOP CLOSE
    | this PLACE SEEMS IMPRESSION AND ABOUT_OTHER STOP BRIEF STOP (2)
REVIEW [length=medium,long]
    -> HAIL OPENING JOIN ABOUT AGAIN STOP BRIEF STOP (2) | HAIL ABOUT_HERE AND ABOUT_OTHER TOO STOP CLOSE (2)
REVIEW [length=long]
    -> OPENING JOIN ABOUT AND ABOUT_OTHER STOP BRIEF STOP (4) | OPENING JOIN ABOUT AGAIN STOP CLOSE (4)
    | OPENING and FIND FOUND STOP CLOSE (2) | HAIL OPENING STOP NOTE , OTHER_NOTE STOP CLOSE (2)

# Who went where, and when.

OPENING -> WHEN ME VISIT this PLACE (2) | WHEN ME VISIT this IMPRESSION PLACE (4) | WHO VISIT this IMPRESSION PLACE (2)
    | ME VISIT this IMPRESSION PLACE WHERE (2) | ME VISIT this NEUTRAL PLACE WHEN (2) | ME VISIT this PLACE WHERE

ME  [person=i]  -> i
ME  [person=we] -> we
US  [person=i]  -> me
US  [person=we] -> us
MY  [person=i]  -> my
MY  [person=we] -> our
WHO [person=i]  -> i (2) | i often
WHO [person=we] -> we (2) | my wife and i | my husband and i | my friends and i (2)

WHEN [tense=past]    -> last MOMENT (5) | yesterday | two weeks ago | the other day
WHEN [tense=present] -> every MOMENT (5) | these days | once a month | now and then
MOMENT [topic=restaurant,cafe,cinema,bookshop] -> monday | tuesday | wednesday | thursday | friday (2)
MOMENT [topic=restaurant,cafe,cinema,bookshop] -> saturday (3) | sunday (2)
MOMENT [topic=restaurant,cinema]               -> weekend (2)
MOMENT [topic=cafe,bookshop]                   -> week (2)
MOMENT [topic=hotel,museum]                    -> spring (2) | summer (2) | autumn | winter | april | august | october

VISIT [topic=restaurant tense=past]    -> ate at (3) | had dinner at (2) | tried
VISIT [topic=restaurant tense=present] -> eat at (3) | have dinner at (2) | choose
VISIT [topic=cafe       tense=past]    -> sat in (2) | had lunch at (2) | tried
VISIT [topic=cafe       tense=present] -> sit in (2) | have lunch at (2) | choose
VISIT [topic=hotel      tense=past]    -> stayed at (3) | slept at | booked
VISIT [topic=hotel      tense=present] -> stay at (3) | sleep at | book
VISIT [topic=museum     tense=past]    -> walked through (2) | explored | visited (2)
VISIT [topic=museum     tense=present] -> walk through (2) | explore | visit (2)
VISIT [topic=cinema     tense=past]    -> went to (2) | saw films at (2) | visited
VISIT [topic=cinema     tense=present] -> go to (2) | see films at (2) | visit
VISIT [topic=bookshop   tense=past]    -> browsed in (3) | went to | bought presents at
VISIT [topic=bookshop   tense=present] -> browse in (3) | go to | buy presents at

PLACE [topic=restaurant] -> restaurant (3) | bistro (2) | diner
PLACE [topic=cafe]       -> cafe (3) | tearoom | coffeehouse
PLACE [topic=hotel]      -> hotel (3) | inn | guesthouse
PLACE [topic=museum]     -> museum (3) | gallery (2)
PLACE [topic=cinema]     -> cinema (3) | theatre
PLACE [topic=bookshop]   -> bookshop (3) | bookstore

IMPRESSION [stars=5] -> marvellous (2) | gorgeous | splendid | remarkable | wonderful
IMPRESSION [stars=4] -> charming (2) | lovely (2) | welcoming | pretty | wonderful
IMPRESSION [stars=3] -> decent (2) | modest (2) | simple | plain | pretty
IMPRESSION [stars=2] -> tired | gloomy (2) | dusty | shabby (2) | modest
IMPRESSION [stars=1] -> grim (2) | dreadful (2) | ghastly | miserable | shabby
NEUTRAL -> little (2) | tiny | new (2) | famous | busy
SEEMS [tense=past]    -> was (3) | looked
SEEMS [tense=present] -> is (3) | looks

WHERE               -> near the station (3) | by the river (2) | in town | behind the market | on the square (2)
WHERE [topic=hotel] -> by the sea (3)

# What it was like: first the aspect the review is about, then another.

ABOUT [aspect=product] -> THE_PRODUCT
ABOUT [aspect=people]  -> THE_PEOPLE
ABOUT [aspect=setting] -> THE_SETTING
ABOUT [aspect=price]   -> THE_PRICE
ABOUT_OTHER [aspect=product] -> THE_PEOPLE (2) | THE_SETTING | THE_PRICE
ABOUT_OTHER [aspect=people]  -> THE_PRODUCT (2) | THE_SETTING
ABOUT_OTHER [aspect=setting] -> THE_PRODUCT (2) | THE_PEOPLE
ABOUT_OTHER [aspect=price]   -> THE_PRODUCT (2) | THE_SETTING

THE_PRODUCT -> the THING WAS HOW TASTE (2) | the THINGS WERE HOW TASTE (2)
THE_PRODUCT [topic=restaurant,cafe] -> the THING TASTED TASTE (2)
THE_PEOPLE  -> the HOST WAS HOW MANNERED | the HOSTS WERE HOW MANNERED
THE_SETTING -> the SPOT WAS HOW LOOKING (2) | the surroundings WERE HOW LOOKING
THE_PRICE   -> the FEE WAS HOW PRICED | the prices WERE HOW PRICED

ABOUT_HERE [aspect=product] -> the THING HERE WAS HOW TASTE | the THINGS HERE WERE HOW TASTE
ABOUT_HERE [aspect=people]  -> the HOST HERE WAS HOW MANNERED | the HOSTS HERE WERE HOW MANNERED
ABOUT_HERE [aspect=setting] -> the SPOT HERE WAS HOW LOOKING (2) | the surroundings HERE WERE HOW LOOKING
ABOUT_HERE [aspect=price]   -> the FEE HERE WAS HOW PRICED | the prices HERE WERE HOW PRICED
HERE -> at this PLACE

FOUND [aspect=product] -> the THING HOW TASTE | the THINGS HOW TASTE
FOUND [aspect=people]  -> the HOST HOW MANNERED | the HOSTS HOW MANNERED
FOUND [aspect=setting] -> the SPOT HOW LOOKING
FOUND [aspect=price]   -> the prices HOW PRICED
FIND  [tense=past]     -> found
FIND  [tense=present]  -> find

NOTE [aspect=product] -> TASTE THING | TASTE THINGS
NOTE [aspect=people]  -> MANNERED HOST | MANNERED HOSTS
NOTE [aspect=setting] -> LOOKING SPOT
NOTE [aspect=price]   -> PRICED prices
OTHER_NOTE [aspect=people,setting,price] -> TASTE THING (2) | TASTE THINGS (2)
OTHER_NOTE [aspect=product,setting]      -> MANNERED HOSTS (2)
OTHER_NOTE [aspect=product,people]       -> PRICED prices
OTHER_NOTE [aspect=product,price]        -> LOOKING SPOT

WAS    [tense=past]    -> was (5) | seemed
WAS    [tense=present] -> is (5) | seems
WERE   [tense=past]    -> were (5) | seemed
WERE   [tense=present] -> are (5) | seem
TASTED [tense=past]    -> tasted
TASTED [tense=present] -> tastes

THING  [topic=restaurant] -> soup (2) | pasta (2) | fish (2) | curry
THINGS [topic=restaurant] -> dumplings (2) | desserts (2) | vegetables
THING  [topic=cafe]       -> coffee (4) | tea (2) | cake (2) | chocolate
THINGS [topic=cafe]       -> pastries (2) | sandwiches (2) | scones
THING  [topic=hotel]      -> room (4) | bed (2) | bathroom | suite
THINGS [topic=hotel]      -> rooms (3) | beds
THING  [topic=museum]     -> exhibition (3) | collection (2) | tour
THINGS [topic=museum]     -> paintings (3) | sculptures (2) | mosaics
THING  [topic=cinema]     -> film (4) | comedy | thriller
THINGS [topic=cinema]     -> films (3) | cartoons | trailers
THING  [topic=bookshop]   -> selection (3) | catalogue
THINGS [topic=bookshop]   -> novels (3) | poems | comics (2)

HOST   [topic=restaurant] -> waiter (3) | chef
HOST   [topic=cafe]       -> barista
HOST   [topic=hotel]      -> receptionist (2) | porter
HOST   [topic=museum]     -> guide (3) | curator
HOST   [topic=cinema]     -> cashier
HOST   [topic=bookshop]   -> bookseller (2) | owner
HOSTS                     -> staff (2)
HOSTS  [topic=restaurant] -> waiters (2)
HOSTS  [topic=cafe]       -> baristas
HOSTS  [topic=hotel]      -> porters
HOSTS  [topic=museum]     -> guides (2)
HOSTS  [topic=cinema]     -> ushers (2)
HOSTS  [topic=bookshop]   -> assistants (2)

SPOT [topic=restaurant,cafe] -> terrace (3) | garden (2)
SPOT [topic=restaurant]      -> bar (2)
SPOT [topic=cafe]            -> corner
SPOT [topic=hotel]           -> lobby (3) | garden (2) | balcony
SPOT [topic=museum]          -> courtyard (3) | garden (2)
SPOT [topic=cinema]          -> foyer (3) | hall (2)
SPOT [topic=bookshop]        -> cellar (2) | attic
FEE  [topic=restaurant,cafe,hotel,bookshop] -> bill
FEE  [topic=museum,cinema]                  -> admission

# How good it was. Three stars praise one thing and blame the other.

TASTE [stars=5]                              -> GREAT (3)
TASTE [stars=5 topic=restaurant,cafe]        -> delicious (3) | heavenly | divine
TASTE [stars=5 topic=hotel]                  -> spotless (3) | luxurious (2)
TASTE [stars=5 topic=museum,cinema,bookshop] -> fascinating (3) | unforgettable | inspiring
TASTE [stars=4]                              -> TASTY
TASTE [stars=3 aspect=product]               -> TASTY (2) | FAIR
TASTE [stars=3 aspect=people,setting,price]  -> BLAND
TASTE [stars=2]                              -> BLAND
TASTE [stars=1]                              -> AWFUL (3)
TASTE [stars=1 topic=restaurant,cafe]        -> disgusting (2)
TASTE [stars=1 topic=restaurant]             -> burnt (2)
TASTE [stars=1 topic=cafe]                   -> revolting (2)
TASTE [stars=1 topic=hotel]                  -> filthy (2) | freezing (2)
TASTE [stars=1 topic=museum,cinema,bookshop] -> unbearable (2) | pointless (2)
TASTY                                -> GOOD (2)
TASTY [topic=restaurant,cafe]        -> tasty (3) | fresh (2)
TASTY [topic=hotel]                  -> clean (2) | comfortable (3)
TASTY [topic=museum,cinema,bookshop] -> interesting (3) | clever (2)
BLAND                                -> POOR (2)
BLAND [topic=restaurant,cafe]        -> bland (3)
BLAND [topic=restaurant]             -> greasy (2)
BLAND [topic=cafe]                   -> stale (2)
BLAND [topic=hotel]                  -> cramped (2) | cold (2)
BLAND [topic=museum,cinema,bookshop] -> dull (3) | tedious (2)

MANNERED [stars=5]                              -> delightful (3) | brilliant (2) | wonderful
MANNERED [stars=4]                              -> FRIENDLY
MANNERED [stars=3 aspect=people]                -> FRIENDLY (2) | FAIR
MANNERED [stars=3 aspect=product,setting,price] -> SLOW
MANNERED [stars=2]                              -> SLOW
MANNERED [stars=1]                              -> rude (3) | hostile | insulting
FRIENDLY -> friendly (3) | helpful (2) | polite (2)
SLOW     -> slow (3) | careless | grumpy (2)

LOOKING [stars=5]                             -> beautiful (3) | enchanting | magical (2)
LOOKING [stars=4]                             -> COSY
LOOKING [stars=3 aspect=setting]              -> COSY (2) | FAIR
LOOKING [stars=3 aspect=product,people,price] -> NOISY
LOOKING [stars=2]                             -> NOISY
LOOKING [stars=1]                             -> ugly (2) | filthy (2) | AWFUL
COSY  -> cosy (3) | peaceful (2) | tidy
NOISY -> noisy (3) | dark (2) | crowded (2)

PRICED [stars=5]                               -> unbeatable (2) | fantastic
PRICED [stars=4]                               -> FAIR_PRICED
PRICED [stars=3 aspect=price]                  -> FAIR_PRICED (2) | FAIR
PRICED [stars=3 aspect=product,people,setting] -> STEEP
PRICED [stars=2]                               -> STEEP
PRICED [stars=1]                               -> outrageous (2) | ridiculous
FAIR_PRICED -> fair (2) | reasonable (3) | modest
STEEP       -> steep (2) | high (3)

GREAT -> superb (2) | excellent (2) | wonderful | perfect
GOOD  -> good (3) | nice (2) | pleasant
FAIR  -> average (2) | acceptable | ordinary (2)
POOR  -> poor (2) | disappointing (2) | mediocre
AWFUL -> terrible (3) | awful (2) | appalling

HOW -> _ (4)
HOW [stars=1,5 tone=plain]  -> truly (2) | really (2)
HOW [stars=1,5 tone=lively] -> absolutely (3) | simply | totally (2)
HOW [stars=1,5 tone=formal] -> truly | utterly (2) | thoroughly
HOW [stars=2,4 tone=plain]  -> very (3) | really
HOW [stars=2,4 tone=lively] -> so (3) | really
HOW [stars=2,4 tone=formal] -> particularly (2) | decidedly (2)
HOW [stars=3]               -> rather (2) | fairly | quite (2)

# Turns of phrase.

HAIL [tone=plain]             -> _ (8) | well , | honestly ,
HAIL [tone=lively stars=4,5]  -> _ (2) | wow , (3) | hooray , | yes ,
HAIL [tone=lively stars=3]    -> _ (2) | well , (2) | hmm , (2)
HAIL [tone=lively stars=1,2]  -> _ (2) | ugh , (3) | honestly , (2)
HAIL [tone=formal stars=4,5]  -> _ (2) | happily , (2) | fortunately ,
HAIL [tone=formal stars=3]    -> _ (2) | admittedly , | granted , (2)
HAIL [tone=formal stars=1,2]  -> _ (2) | regrettably , (2) | unfortunately , (2)
SUM_UP [tone=plain]  -> _ (4) | overall ,
SUM_UP [tone=lively] -> _ (2) | seriously ,
SUM_UP [tone=formal] -> _ (2) | altogether , | ultimately ,
STOP [tone=plain,formal] -> . (9)
STOP [tone=plain]        -> !
STOP [tone=lively]       -> ! (4) | .

JOIN -> , and (3) | , where (2)
JOIN [tone=lively] -> and (2)
JOIN [tone=formal] -> , where (2)
AND [stars=1,2,4,5] -> and (4) | , and (2) | , while
AND [stars=3]       -> but (3) | , but (3) | , though | , yet
AGAIN [tense=past]    -> _ (4) | that day | this time
AGAIN [tense=present] -> _ (4) | as always | as usual
TOO [stars=1,2,4,5] -> _ (2) | too | as well
TOO [stars=3]       -> _

# Last words.

BRIEF [stars=5] -> simply perfect | a real gem (2) | pure joy
BRIEF [stars=4] -> well worth a visit (2) | good value
BRIEF [stars=3] -> nothing special (2) | not bad at all (2)
BRIEF [stars=2] -> not for US (2) | quite a letdown
BRIEF [stars=1] -> never again (2) | stay away
BRIEF [stars=5 tense=past]    -> ME loved it (2)
BRIEF [stars=5 tense=present] -> ME love it (2)
BRIEF [stars=4 tense=past]    -> ME liked it (2)
BRIEF [stars=4 tense=present] -> ME like it (2)
BRIEF [stars=2 tense=past]    -> ME expected more (2)
BRIEF [stars=2 tense=present] -> ME expect more (2)
BRIEF [stars=1 tense=past]    -> ME hated it (2)
BRIEF [stars=1 tense=present] -> ME hate it (2)
BRIEF [stars=4,5 tone=formal] -> warmly recommended (3)
BRIEF [stars=3 tone=formal]   -> adequate at best (3)
BRIEF [stars=1,2 tone=formal] -> best avoided (3)
BRIEF [stars=4,5 tone=lively] -> what a treat (3)
BRIEF [stars=3 tone=lively]   -> could be worse (3)
BRIEF [stars=1,2 tone=lively] -> what a nightmare (3)

CLOSE               -> SUM_UP VERDICT STOP (3)
CLOSE [tone=lively] -> QUESTION
VERDICT [stars=5] -> five stars from US (2) | ME RECOMMEND it to FANS (2) | a real treat for FANS
VERDICT [stars=4] -> four stars from US (2) | ME RECOMMEND it to FANS (2) | well worth a visit for FANS
VERDICT [stars=3] -> three stars from US (2) | worth a try for FANS (2) | just about fine for FANS
VERDICT [stars=2] -> two stars from US (2) | FANS should look elsewhere (2) | ME cannot recommend it to FANS
VERDICT [stars=1] -> one star from US (2) | FANS should stay away (2) | avoid this place
VERDICT [stars=5 tense=past]    -> ME will be back next MOMENT (2) | ME cannot wait to return (2)
VERDICT [stars=5 tense=present] -> ME keep coming back (2) | ME never want to leave (2)
VERDICT [stars=4 tense=past]    -> ME would gladly return (2) | ME will come again next MOMENT (2)
VERDICT [stars=4 tense=present] -> ME always enjoy it (2) | ME come here again and again
VERDICT [stars=3 tense=past]    -> ME may return one day (2) | ME had hoped for more (2)
VERDICT [stars=3 tense=present] -> ME come here when it rains (2) | ME keep hoping for more (2)
VERDICT [stars=2 tense=past]    -> ME left early (2) | ME will look elsewhere next MOMENT
VERDICT [stars=2 tense=present] -> ME often leave early (2) | ME expect more every MOMENT
VERDICT [stars=1 tense=past]    -> ME will never return (2) | ME wanted MY money back (2)
VERDICT [stars=1 tense=present] -> ME should stop coming here (2) | ME regret it every time (2)

QUESTION [stars=5]                -> what more could ME want ?
QUESTION [stars=4]                -> why not try it next MOMENT ?
QUESTION [stars=3]                -> will ME return ? maybe .
QUESTION [stars=2 tense=past]     -> was it worth it ? no .
QUESTION [stars=2 tense=present]  -> is it worth it ? no .
QUESTION [stars=1 tense=past]     -> why did ME bother ?
QUESTION [stars=1 tense=present]  -> why do ME bother ?

ADVICE [stars=4,5] -> ME RECOMMEND this PLACE to FANS (2) | FANS LIKE this IMPRESSION PLACE
ADVICE [stars=3]   -> this IMPRESSION PLACE is fine for FANS | this PLACE is fine when it rains
ADVICE [stars=2]   -> ME cannot recommend this PLACE to FANS | FANS should avoid this IMPRESSION PLACE
ADVICE [stars=1]   -> ME warn FANS about this IMPRESSION PLACE | FANS should avoid this IMPRESSION PLACE
LIKE [stars=4] -> will like
LIKE [stars=5] -> will love
RECOMMEND [tone=plain]  -> recommend
RECOMMEND [tone=lively] -> totally recommend
RECOMMEND [tone=formal] -> warmly recommend

FANS [topic=restaurant] -> gourmets | families (2) | food lovers (2)
FANS [topic=cafe]       -> students | friends (2) | coffee lovers (2)
FANS [topic=hotel]      -> travellers (2) | families | couples
FANS [topic=museum]     -> families | art lovers (3)
FANS [topic=cinema]     -> film lovers (3) | couples
FANS [topic=bookshop]   -> readers (3) | students | book lovers
"""


@dataclass(frozen=True)
class Review:
    """A sentence of the corpus, its tokens separated by single spaces, and its two labels."""

    text: str
    stars: int
    topic: str


@cache
def review_grammar() -> Grammar:
    """The grammar of the corpus, read once."""
    return Grammar(GRAMMAR)


def sample(rng: random.Random) -> Review:
    """Draw a review; the same `rng` state gives the same review everywhere."""
    sentence = review_grammar().sample(rng)
    return Review(sentence.text, int(sentence.attributes["stars"]), sentence.attributes["topic"])


def true_nll(texts: Iterable[str], known: Container[str] | None = None) -> NDArray[np.float64]:
    """-log p(text) of each text, (N,), in nats per sentence, its end included: what no model can beat on average.

    Infinite for a text that the grammar cannot produce.

    With `known`, the words of a model's vocabulary, of the texts as that model sees them, all unknown words being one.
    """
    grammar = review_grammar()
    return -np.array([grammar.log_probability(text, known) for text in texts], dtype=np.float64)


def build(seed: int = 0, sizes: Sequence[int] = SIZES) -> DatasetDict:
    """The corpus: `text`, `stars` (1 to 5) and `topic` of reviews drawn independently for train, validation and test.

    A smaller split is the beginning of a larger one of the same seed.
    """
    return DatasetDict({split: _split(f"demo {split} {seed}", size) for split, size in zip(SPLITS, sizes, strict=True)})


def first(limits: Mapping[str, int]) -> DatasetDict:
    """The corpus with the first reviews of each split, `{"train": 1000}`: no others are drawn."""
    return build(sizes=[min(size, limits.get(split, size)) for split, size in zip(SPLITS, SIZES, strict=True)])


def _split(seed: str, size: int) -> Dataset:
    reviews = _reviews(seed, size)
    columns = {name: [getattr(review, name) for review in reviews] for name in ("text", "stars", "topic")}
    return Dataset.from_dict(columns)


@lru_cache(maxsize=6)
def _reviews(seed: str, size: int) -> list[Review]:
    rng = random.Random(seed)  # text seeds pass through SHA-512: the same on every platform
    return [sample(rng) for _ in range(size)]

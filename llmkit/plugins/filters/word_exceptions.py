"""Chunks of text that are cut into words by a list rather than by a rule: contractions, abbreviations, emoticons.

They are spaCy's for English (https://spacy.io/api/tokenizer, which datatrove's filters count by), built here from their grammar: a word,
and the clitics that may follow it, each with and without its apostrophe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

Pieces = tuple[str, ...]

PRONOUNS = ("i", "you", "he", "she", "it", "we", "they")
ASKING = ("who", "what", "when", "where", "why", "how", "there")
POINTING_AT_ONE = ("that", "this")
POINTING_AT_MANY = ("these", "those")
WITH_NOT = ("ca", "could", "do", "does", "did", "had", "may", "might", "must", "need", "ought", "sha", "should", "wo", "would")
WITH_NOT_ALONE = ("ai", "are", "is", "was", "were", "have", "has", "dare")
WITH_HAVE = ("could", "might", "must", "should", "would", "not")
WORDS_OF_THEIR_OWN = ("ill", "its", "hell", "shell", "shed", "were", "well", "whore")
"""What is an English word where a contraction has lost its apostrophe."""

AFTER_PRONOUNS: Mapping[str, Sequence[Pieces]] = {
    "i": (("'m",), ("'m", "a"), ("'ve",)),
    "you": (("'ve",), ("'re",)),
    "he": (("'s",),),
    "she": (("'s",),),
    "it": (("'s",),),
    "we": (("'ve",), ("'re",)),
    "they": (("'ve",), ("'re",)),
}
AFTER_ANY: Sequence[Pieces] = (("'ll",), ("'ll", "'ve"), ("'d",), ("'d", "'ve"))
LOST_THEIR_START = "Cause Cos Coz Cuz bout cause cos coz cuz em nuff"
LOST_THEIR_END = "Doin Goin Havin Lovin Nothin Nuthin Ol Somethin doin goin havin lovin nothin nuthin ol somethin"
CUT = (
    "can not;Can not;gon na;Gon na;got ta;Got ta;let 's;Let 's;C'm on;c'm on;y' all;y all;"
    "How 'd 'y;how 'd 'y;° C .;° F .;° K .;° c .;° f .;° k ."
)
ABBREVIATIONS = (
    "a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. ä. ö. ü. "
    "Adm. Ak. Ala. Apr. Ariz. Ark. Aug. Bros. Calif. Co. Colo. Conn. Corp. D.C. Dec. Del. Dr. E.G. E.g. Feb. Fla. Ga. Gen. Gov. I.E. I.e. "
    "Ia. Id. Ill. Inc. Ind. Jan. Jr. Jul. Jun. Kan. Kans. Ky. La. Ltd. Mar. Mass. Md. Messrs. Mich. Minn. Miss. Mo. Mont. Mr. Mrs. Ms. "
    "Mt. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. Ph.D. Prof. Rep. Rev. S.C. Sen. Sep. Sept. St. Tenn. Va. "
    "Wash. Wis. a.m. co. e.g. i.e. p.m. v.s. vs. ll C++ and/or w/o ma'am Ma'am o'clock "
    "O'clock \u2018S \u2018s 'S 's 'd 'll 're ' '' — \\n \\t \\\") <space>"
)
EMOTICONS = (
    "(*_*) (-8 (-: (-; (-_-) (._.) (: (; (= (>_<) (^_^) (o: (¬_¬) (ಠ_ಠ) (╯°□°）╯︵┻━┻ )-: ): -_- -__- ._. 0.0 0.o 0_0 0_o 8) 8-) 8-D 8D "  # noqa: RUF001
    ":'( :') :'-( :'-) :( :(( :((( :() :) :)) :))) :* :-( :-(( :-((( :-) :-)) :-))) :-* :-/ :-0 :-3 :-> :-D :-O :-P :-X :-] :-o :-p :-x "
    ":-| :-} :/ :0 :1 :3 :> :D :O :P :X :] :o :o) :p :x :| :} ;) ;-) ;-D ;D ;_; <.< </3 <3 <33 <333 =( =) =/ =3 =D =[ =] =| >.< >.> >:( "
    ">:o ><(((*> @_@ O.O O.o O_O O_o V.V V_V XD XDD [-: [: [= ]= ^_^ ^__^ ^___^ o.0 o.O o.o o_0 o_O o_o v.v v_v xD xDD ¯\\(ツ)/¯ ಠ_ಠ ಠ︵ಠ"
)


def exceptions() -> dict[str, Pieces]:
    """Every chunk that has its words in this list, with either apostrophe."""
    found = {"".join(pieces): pieces for pieces in _contractions()}
    whole = (*ABBREVIATIONS.split(), *EMOTICONS.split())
    shortened = (*(f"'{word}" for word in LOST_THEIR_START.split()), *(f"{word}'" for word in LOST_THEIR_END.split()))
    found.update({word: (word,) for word in (*whole, *shortened)})
    found.update({"".join(pieces): pieces for cut in CUT.split(";") for pieces in [tuple(cut.split())]})
    for hour in range(1, 13):
        found.update({f"{hour}{half}": (str(hour), half) for half in ("am", "pm", "a.m.", "p.m.")})
    return found | {_curly(chunk): tuple(map(_curly, pieces)) for chunk, pieces in found.items()}


def _curly(text: str) -> str:
    return text.replace("'", "’")  # noqa: RUF001


def _contractions() -> Iterator[Pieces]:
    for pieces in _with_apostrophes():
        for cased in (pieces, (pieces[0].title(), *pieces[1:])):
            yield cased
            bare = tuple(piece.replace("'", "") for piece in cased)
            if "".join(bare).lower() not in WORDS_OF_THEIR_OWN:
                yield bare


def _with_apostrophes() -> Iterator[Pieces]:
    for word in PRONOUNS:
        yield from ((word, *clitics) for clitics in (*AFTER_ANY, *AFTER_PRONOUNS[word]))
    for word in (*ASKING, *POINTING_AT_ONE, *POINTING_AT_MANY):
        yield from ((word, *clitics) for clitics in AFTER_ANY)
    yield from ((word, "'s") for word in (*ASKING, *POINTING_AT_ONE))
    yield from ((word, clitic) for word in (*ASKING, *POINTING_AT_MANY) for clitic in ("'re", "'ve"))
    for word in WITH_NOT:
        yield from ((word, *clitics) for clitics in (("n't",), ("n't", "'ve")))
    yield from ((word, "n't") for word in WITH_NOT_ALONE)
    yield from ((word, "'ve") for word in WITH_HAVE)

"""Captions to the words that COCO's caption scores count: Stanford's Penn Treebank tokenizer, without Java.

`pycocoevalcap` runs the ``PTBTokenizer`` of CoreNLP 3.4.1 with ``-preserveLines -lowerCase`` and then drops
punctuation. These are its rules for what captions hold: contractions, possessives, hyphens, slashes, numbers,
times, abbreviations, quotes, dashes, brackets and addresses. Tags, telephone numbers and most smileys are not covered.
"""

import re

# What pycocoevalcap drops. It looks for -LRB- after all was put in lower case, so brackets stay as words.
PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)

_CHARACTERS = str.maketrans({"’": "'", "‘": "`", "–": "--", "—": "--", "…": "...", "£": "#", "\xa0": " "})
_WRITTEN = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "“": "``",
    "”": "''",
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
}
_HALVES = {"cannot": 3, "gonna": 3, "gotta": 3, "lemme": 3, "gimme": 3, "wanna": 3, "'twas": 2, "'tis": 2}

# These keep their full stop. Those of the first list get a second one where a sentence seems to begin behind them.
_ENDING = (
    "al|ala|apr|ariz|assn|aug|bancorp|bhd|bldg|blvd|bros|calif|co|colo|conn|corp|cos|ct|dak|dec|esq|est|etc|ext|feb|fla"
    "|fri|ga|inc|ind|intl|jan|jr|jul|jun|kan|ky|ltd|mar|md|mich|minn|mo|mon|mont|neb|nev|nov|oct|okla|penn|plc|rd|sep"
    "|sept|seq|sr|sys|tel|tenn|thu|thurs|tue|tues|univ|va|vt|wed|wisc?|wyo"
)
_TITLES = (
    "adm|atty|ave|brig|capt|cmdr|col|comdr|cpl|dept|det|drs?|elec|ft|gen|gov|hon|invt|lieut|lt|maj|messrs|mfg|mr|mrs"
    "|ms|mt|natl|pfc|ph|pres|profs?|pvt|rep|rev|sen|sgt|spc|ste?|supt|vs"
)
_STATES = "Ark|Del|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash"
_STARTS = "A|An|The|This|That|Two|There|It|He|She|They|In|On|We|I"

_END = r"(?![^\W_])"
_WORD = r"[^\W_]+(?:_[^\W_]+)*"
_TAIL = r"[^\s\"<>|.!?(){},-]"
_RULES = {
    "address": rf"https?://[^\s\"<>|()]+{_TAIL}"
    rf"|(?:[^\W_][\w-]*\.)+(?:com|net|org|edu){_END}(?:/[^\s\"<>|()]*{_TAIL})?"
    r"|[^\W_][\w.+-]*@(?:[\w-]+\.)+\w+|@[A-Za-z]\w*|\#[A-Za-z]\w*",
    "entity": r"&(?:amp|lt|gt);",
    "halves": rf"(?i:cannot|gonna|gotta|lemme|gimme|wanna|'twas|'tis){_END}",
    "short": rf"(?i:'(?:[smd]|re|ve|ll)|n't){_END}|'n'|(?i:'em|'til|'n){_END}|'\d0s{_END}|'\d\d(?=\s)",
    "smiley": r"[<>]?[:;=][-o*']?[()DP](?![^\W_])",
    "time": r"\d{1,2}:\d\d(?=[AaPp]\.?[Mm])",
    "number": rf"\d++\ \d+/\d+{_END}|[+-]?\.?\d++(?:[.,:/]\d++)*(?:-{_WORD})*+(?![^\W_]|/\w)",
    "initials": rf"(?:[A-Za-z]\.){{2,}}(?:-{_WORD}|[^\W\d_]+)?|[A-Za-z](?:\.[A-Za-z])+{_END}"
    rf"|[A-Za-z]\.(?=\s(?!(?:{_STARTS})\s))(?!\s*$)",
    "ending": rf"(?:(?i:{_ENDING})|{_STATES})\.(?![^\W_])",
    "title": rf"(?i:{_TITLES})\.(?![^\W_])|(?i:nos?|pp|art|fig|vol)\.(?=\s*\d)|[^\W\d_]+\.(?=[,;:])",
    "joined": rf"[A-Z]+&[A-Z]+{_END}",
    "negated": r"[^\W_]+?(?=(?i:n't)(?![^\W_]))",
    "name": rf"(?i:[dlo]'){_WORD}(?:-{_WORD})*|(?i:o'clock)|y'(?=[a-z])",
    "word": rf"{_WORD}(?:-{_WORD})*(?:/{_WORD}(?:-{_WORD})*)*(?:\.[^\W\d_]+)*",
    "ellipsis": r"\.\.\.+|(?:\.\ )+\.\ \.|\.\ \.\ \.",
    "dash": r"--+",
    "pairs": r">>|<<|\^_\^",
    "marks": r"[?!]+",
    "left": r"\"(?=[A-Za-z0-9$])|“|``",
    "right": r"\"|”|''",
    "single": r"'(?=[A-Za-z][^\s])",
    "any": r"\S",
}
_LEXER = re.compile("|".join(f"(?P<{name}>{rule})" for name, rule in _RULES.items()))
_CAPITAL = re.compile(r"\s+[A-Z]")


def split_words(caption: str) -> list[str]:
    """Return the words of a caption in lower case, punctuation dropped.

    Parameters
    ----------
    caption : one line; line breaks count as spaces
    """
    return [token for token in split_tokens(caption) if token not in PUNCTUATION]


def split_tokens(caption: str) -> list[str]:
    """Return the tokens of a caption in lower case, punctuation included."""
    text = caption.translate(_CHARACTERS)
    tokens: list[str] = []
    for match in _LEXER.finditer(text):
        tokens.extend(_write(str(match.lastgroup), match.group().lower()))
        if match.lastgroup == "ending" and _CAPITAL.match(text, match.end()):
            tokens.append(".")
    return tokens


def _write(rule: str, token: str) -> list[str]:
    if rule == "halves":
        cut = _HALVES[token]
        return [token[:cut], token[cut:]]
    fixed = {"left": "``", "right": "''", "single": "`", "ellipsis": "...", "dash": "--"}
    if rule == "smiley":
        return [token[:-1] + _WRITTEN.get(token[-1], token[-1])]
    return [fixed.get(rule) or _WRITTEN.get(token, token)]

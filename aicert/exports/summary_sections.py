"""The sections and fields of the summary, in the order of the Commission's template, in our words.

The numbers are those of the template, so that a provider can copy the text into the form that is in
force.
"""

from aicert.frozen import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section, and the fields that it asks for; none for a section that only groups others."""

    number: str
    title: str
    fields: tuple[str, ...] = ()


MODEL_NAMES = ("1.2", "Model names with versions")
DEPENDENCIES = ("1.2", "Models that this one is based on")
SIZE = ("1.3", "Modalities and size of the training data")
DOMAINS = ("2.3", "Most relevant domain names")
OTHER_PROCESSING = ("3.3", "Other relevant information")
_COMMENTS = "Comments (optional)"
_MODALITIES = "Modalities"

SECTIONS = (
    Section(number="1", title="General information"),
    Section(
        number="1.1",
        title="Provider",
        fields=("Name and contact of the provider", "Name and contact of the representative"),
    ),
    Section(
        number="1.2",
        title="Model",
        fields=(MODEL_NAMES[1], DEPENDENCIES[1], "Date of placing on the Union market"),
    ),
    Section(
        number="1.3",
        title="Modalities, size and other characteristics of the training data",
        fields=(
            SIZE[1],
            "Types of content",
            "Latest date at which data was acquired",
            "Languages",
            "Other characteristics",
            _COMMENTS,
        ),
    ),
    Section(number="2", title="Sources of data"),
    Section(
        number="2.1",
        title="Publicly available data sets",
        fields=("Used?", _MODALITIES, "Large ones, by name", "Others, in general", _COMMENTS),
    ),
    Section(number="2.2", title="Private data sets of third parties"),
    Section(
        number="2.2.1",
        title="Licensed commercially by rightsholders or their representatives",
        fields=("Agreements made?", _MODALITIES),
    ),
    Section(
        number="2.2.2",
        title="Obtained from other third parties",
        fields=("Used?", _MODALITIES, "Known ones, by name", "Others, in general", _COMMENTS),
    ),
    Section(
        number="2.3",
        title="Data crawled and scraped from online sources",
        fields=(
            "Crawlers used?",
            "Names of crawlers",
            "Purposes of crawlers",
            "Behaviour of crawlers",
            "Period of collection",
            "Types of content and sources",
            _MODALITIES,
            DOMAINS[1],
            _COMMENTS,
        ),
    ),
    Section(
        number="2.4",
        title="User data",
        fields=(
            "Interactions with the model used?",
            "Interactions with other services used?",
            "Services, in general",
            _MODALITIES,
            _COMMENTS,
        ),
    ),
    Section(
        number="2.5",
        title="Synthetic data",
        fields=("Used?", _MODALITIES, "Models on the market", "Other models", _COMMENTS),
    ),
    Section(number="2.6", title="Other sources", fields=("Used?", "Description", _COMMENTS)),
    Section(number="3", title="How data was processed"),
    Section(
        number="3.1",
        title="Rights reserved from text and data mining",
        fields=("Signatory of the Code of Practice?", "Measures", _COMMENTS),
    ),
    Section(number="3.2", title="Removal of illegal content", fields=("Measures",)),
    Section(number="3.3", title="Other information", fields=(OTHER_PROCESSING[1],)),
)

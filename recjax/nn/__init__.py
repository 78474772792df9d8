"""Flax modules that represent items and users and score every item for a user.

Networks take a batch of observations and the item features as call arguments and keep
no data. Item and user towers are submodules named ``item`` and ``user``, so what is
learned from logs can start what is learned from rewards.

>>> import jax, jax.numpy as jnp
>>> from recjax import catalogue
>>> from recjax.types import Items, Spec
>>> items = Items(popularity=jnp.ones(50), is_new=jnp.zeros(50, bool))
>>> observation = Spec(num_items=50, slate_size=1, history_length=5).empty_observation((2,))
>>> network = DotProductQ.of(num_items=50, dim=8, encoder="gru")
>>> params = network.init(jax.random.key(0), observation, items)
>>> q_max = catalogue.max_score(*catalogue_scores(network, params, observation, items))
>>> q_max.shape
(2,)
"""

from recjax.nn.actor_critic import ContextValue, ContextVector, GaussianPolicy, StateValue
from recjax.nn.adaptors import LinearAdaptor, MixtureAdaptor, MLPAdaptor, adaptors
from recjax.nn.attention import RelativeBias, SelfAttention, TransformerBlock
from recjax.nn.bidirectional import BidirectionalEncoder
from recjax.nn.contracts import (
    DenseNetwork,
    DistributionalNetwork,
    FeatureEncoder,
    HistoryEncoder,
    ItemVectorNetwork,
    LikelihoodModel,
    OncePerItem,
    Outcomes,
    ScoringNetwork,
    SequenceModel,
    SlateNetwork,
    ValueHead,
)
from recjax.nn.distributional import CategoricalDotProductQ, DenseDistributionalNetwork, QuantileDotProductQ
from recjax.nn.distributions import Categorical, Quantiles
from recjax.nn.features import MeanWordEncoder, feature_encoders
from recjax.nn.history import GRUEncoder, MeanEncoder, SelfAttentionEncoder, history_encoders
from recjax.nn.hstu import HSTUBlock, HSTUEncoder
from recjax.nn.item import ItemTower
from recjax.nn.noisy import NoisyDense, check_noise
from recjax.nn.q_networks import MLPQ, DotProductQ, DuelingDotProductQ, q_networks
from recjax.nn.q_recommendation import QRecommendation
from recjax.nn.recommendation import Recommendation
from recjax.nn.similarity import Similarity, cosine_similarity, normalize
from recjax.nn.slate_networks import CandidateSlateQ, DotProductSlateQ
from recjax.nn.towers import Towers
from recjax.nn.transfer import (
    catalogue_scores,
    check_scores,
    check_towers,
    has_item_vectors,
    item_vectors,
    scorer,
    towers_of,
    warm_start,
    with_new_items,
)
from recjax.nn.user import UserTower

__all__ = [
    "MLPQ",
    "BidirectionalEncoder",
    "CandidateSlateQ",
    "Categorical",
    "CategoricalDotProductQ",
    "ContextValue",
    "ContextVector",
    "DenseDistributionalNetwork",
    "DenseNetwork",
    "DistributionalNetwork",
    "DotProductQ",
    "DotProductSlateQ",
    "DuelingDotProductQ",
    "FeatureEncoder",
    "GRUEncoder",
    "GaussianPolicy",
    "HSTUBlock",
    "HSTUEncoder",
    "HistoryEncoder",
    "ItemTower",
    "ItemVectorNetwork",
    "LikelihoodModel",
    "LinearAdaptor",
    "MLPAdaptor",
    "MeanEncoder",
    "MeanWordEncoder",
    "MixtureAdaptor",
    "NoisyDense",
    "OncePerItem",
    "Outcomes",
    "QRecommendation",
    "QuantileDotProductQ",
    "Quantiles",
    "Recommendation",
    "RelativeBias",
    "ScoringNetwork",
    "SelfAttention",
    "SelfAttentionEncoder",
    "SequenceModel",
    "Similarity",
    "SlateNetwork",
    "StateValue",
    "Towers",
    "TransformerBlock",
    "UserTower",
    "ValueHead",
    "adaptors",
    "catalogue_scores",
    "check_noise",
    "check_scores",
    "check_towers",
    "cosine_similarity",
    "feature_encoders",
    "has_item_vectors",
    "history_encoders",
    "item_vectors",
    "normalize",
    "q_networks",
    "scorer",
    "towers_of",
    "warm_start",
    "with_new_items",
]

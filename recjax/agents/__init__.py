"""Policies and how they learn, as pure functions over a state, by name.

>>> import jax, jax.numpy as jnp, optax
>>> from recjax import agents, nn
>>> from recjax.types import Items, Spec
>>> spec = Spec(num_items=50, slate_size=3, history_length=5)
>>> items = Items(popularity=jnp.ones(50), is_new=jnp.zeros(50, bool))
>>> agent = agents.dqn(nn.DotProductQ.of(num_items=50, dim=8), optax.adam(1e-3), n_step=3, discount=0.9)
>>> state = agent.init(jax.random.key(0), spec, items)
>>> observation = spec.empty_observation((4,))
>>> action = agent.act(jax.random.key(1), state, observation, explore=True)
>>> action.slate.shape, action.log_prob.shape
((4, 3), (4,))
>>> bool(jnp.allclose(agent.log_prob(state, observation, action.slate), action.log_prob, atol=1e-4))
True

The myopic policy is the same agent, and the same compiled program, with other
hyper-parameters:

>>> myopic = agent.init(jax.random.key(0), spec, items, hparams=agent.hparams.replace(discount=0.0))

Every agent is registered: ``agents.agents.make("random")``.
"""

from recjax.agents.bandits import (
    ONE_MODEL,
    BanditHyper,
    BanditState,
    FeatureMap,
    Linear,
    Means,
    MLPFeatures,
    Models,
    NeuralLinear,
    Regression,
    context_features,
    crossed_features,
    epsilon_greedy_bandit,
    item_features,
    item_models,
    square_cb,
    thompson,
    ucb,
    user_models,
)
from recjax.agents.base import Action, Agent, Update, agents, register
from recjax.agents.baselines import (
    FixedState,
    SupervisedState,
    fixed_policy,
    neighbours,
    oracle,
    popularity,
    random,
    similarity_prior,
    supervised,
    supervised_greedy,
)
from recjax.agents.clicks import ClickPrediction
from recjax.agents.continuous import (
    ActorCriticState,
    DeterministicHyper,
    GaussianActor,
    NearestItems,
    SACHyper,
    VectorActor,
    VectorCritic,
    ddpg,
    sac,
    td3,
)
from recjax.agents.exploration import (
    Exploration,
    ExplorationHyper,
    boltzmann,
    epsilon_greedy,
    explorations,
    greedy,
    plackett_luce,
)
from recjax.agents.offline import OfflineHyper, OfflineState, bc, bcq, cql, crr, iql
from recjax.agents.policy import (
    PolicyHyper,
    PolicyRegularizer,
    PolicyState,
    Proximal,
    SACDiscreteHyper,
    SACDiscreteState,
    TopKCorrection,
    a2c,
    ppo,
    reinforce,
    rloo,
    sac_discrete,
)
from recjax.agents.search import Evolution, EvolutionState, VectorPolicyState, evolution_strategy, vector_policy
from recjax.agents.slates import SlatePolicy
from recjax.agents.tuned import TunedState, tuned
from recjax.agents.uniform import fill_uniformly
from recjax.agents.value import (
    DQNHyper,
    DQNState,
    Munchausen,
    Priorities,
    SlateQState,
    Surrogates,
    SurrogateState,
    TabularHyper,
    TabularState,
    TargetNetwork,
    TDLoss,
    dqn,
    expected_sarsa,
    last_item,
    q_learning,
    sarsa,
    slate_q,
)

__all__ = [
    "ONE_MODEL",
    "Action",
    "ActorCriticState",
    "Agent",
    "BanditHyper",
    "BanditState",
    "ClickPrediction",
    "DQNHyper",
    "DQNState",
    "DeterministicHyper",
    "Evolution",
    "EvolutionState",
    "Exploration",
    "ExplorationHyper",
    "FeatureMap",
    "FixedState",
    "GaussianActor",
    "Linear",
    "MLPFeatures",
    "Means",
    "Models",
    "Munchausen",
    "NearestItems",
    "NeuralLinear",
    "OfflineHyper",
    "OfflineState",
    "PolicyHyper",
    "PolicyRegularizer",
    "PolicyState",
    "Priorities",
    "Proximal",
    "Regression",
    "SACDiscreteHyper",
    "SACDiscreteState",
    "SACHyper",
    "SlatePolicy",
    "SlateQState",
    "SupervisedState",
    "SurrogateState",
    "Surrogates",
    "TDLoss",
    "TabularHyper",
    "TabularState",
    "TargetNetwork",
    "TopKCorrection",
    "TunedState",
    "Update",
    "VectorActor",
    "VectorCritic",
    "VectorPolicyState",
    "a2c",
    "agents",
    "bc",
    "bcq",
    "boltzmann",
    "context_features",
    "cql",
    "crossed_features",
    "crr",
    "ddpg",
    "dqn",
    "epsilon_greedy",
    "epsilon_greedy_bandit",
    "evolution_strategy",
    "expected_sarsa",
    "explorations",
    "fill_uniformly",
    "fixed_policy",
    "greedy",
    "iql",
    "item_features",
    "item_models",
    "last_item",
    "neighbours",
    "oracle",
    "plackett_luce",
    "popularity",
    "ppo",
    "q_learning",
    "random",
    "register",
    "reinforce",
    "rloo",
    "sac",
    "sac_discrete",
    "sarsa",
    "similarity_prior",
    "slate_q",
    "square_cb",
    "supervised",
    "supervised_greedy",
    "td3",
    "thompson",
    "tuned",
    "ucb",
    "user_models",
    "vector_policy",
]

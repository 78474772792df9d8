"""Domains with dynamics of their own: a shop, music, videos, news, a conversation, a visit of somebody unknown."""

from recjax.envs.presets.conversational import Dialogue, conversational
from recjax.envs.presets.ecommerce import Shop, ecommerce
from recjax.envs.presets.music import Listening, music
from recjax.envs.presets.news import Newsroom, news
from recjax.envs.presets.session import session
from recjax.envs.presets.video import Videos, video

__all__ = [
    "Dialogue",
    "Listening",
    "Newsroom",
    "Shop",
    "Videos",
    "conversational",
    "ecommerce",
    "music",
    "news",
    "session",
    "video",
]

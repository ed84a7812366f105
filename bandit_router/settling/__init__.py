"""How a reward is counted once: the rules, the learner they feed, and the shelf in memory."""

import numpy as np
from my_advantage import OverMean


def test_rare_successes_weigh_more():
    advantages = OverMean(OverMean.Config(power=1.0)).of_group(np.array([1.0, 0, 0, 0]))
    assert advantages.tolist() == [3, -1, -1, -1]

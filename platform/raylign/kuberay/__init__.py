"""KubeRay manifests made from the plan of a run, so that the pods that are asked for are the pods that are used."""

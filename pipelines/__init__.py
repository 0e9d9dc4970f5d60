"""Hub-loadable diffusers pipelines, one self-contained file each; installed as relightify_diffusers.pipelines."""
